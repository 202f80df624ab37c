package doctor_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/internal/doctor"
)

const someWorkspace = "0f8fad5b-d9cb-469f-a165-70867728950e"

// theirRule is one that expires everything after some days, until it is changed.
func theirRule(days int32, change func(*types.LifecycleRule)) types.LifecycleRule {
	r := types.LifecycleRule{
		ID: aws.String("theirs"), Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{},
		Expiration: &types.LifecycleExpiration{Days: &days},
	}
	if change != nil {
		change(&r)
	}
	return r
}

// filtered is theirRule for some objects.
func filtered(days int32, f types.LifecycleRuleFilter) types.LifecycleRule {
	return theirRule(days, func(r *types.LifecycleRule) { r.Filter = &f })
}

// from is a rule with a date, for one workspace: MinIO goes by it at once, and
// would take the probes, too.
func from(date time.Time) types.LifecycleRule {
	return theirRule(0, func(r *types.LifecycleRule) {
		r.Expiration = &types.LifecycleExpiration{Date: &date}
		r.Filter = &types.LifecycleRuleFilter{Prefix: aws.String(prefix + "/" + someWorkspace)}
	})
}

// install replaces all rules of the bucket.
func (w *world) install(t *testing.T, rules ...types.LifecycleRule) {
	t.Helper()
	if _, err := w.s3.Client().PutBucketLifecycleConfiguration(t.Context(), &s3.PutBucketLifecycleConfigurationInput{
		Bucket: &w.s3.Bucket, LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: rules},
	}); err != nil {
		t.Fatal(err)
	}
}

// installed are the days of each rule by its name.
func (w *world) installed(t *testing.T) map[string]int32 {
	t.Helper()
	out, err := w.s3.Client().GetBucketLifecycleConfiguration(t.Context(), &s3.GetBucketLifecycleConfigurationInput{Bucket: &w.s3.Bucket})
	if err != nil {
		t.Fatal(err)
	}
	days := map[string]int32{}
	for _, r := range out.Rules {
		days[aws.ToString(r.ID)] = aws.ToInt32(r.Expiration.Days)
	}
	return days
}

// Beside the rule that newWorld has, which is as it should be.
func TestRulesThatTakeLiveObjects(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rule types.LifecycleRule
		want others
		says string
	}{
		"a workspace": {filtered(1, types.LifecycleRuleFilter{Prefix: aws.String(prefix + "/" + someWorkspace + "/")}),
			others{"lifecycle objects": doctor.Failure}, "expires objects after 1 day (some of them)"},
		"half an id": {filtered(1, types.LifecycleRuleFilter{Prefix: aws.String(prefix + "/0f")}),
			others{"lifecycle objects": doctor.Failure}, "expires objects after 1 day (some of them)"},
		"half the prefix": {filtered(1, types.LifecycleRuleFilter{Prefix: aws.String(prefix[:3])}),
			others{"lifecycle objects": doctor.Failure}, "expires objects after 1 day;"},
		"by size": {filtered(1, types.LifecycleRuleFilter{ObjectSizeGreaterThan: aws.Int64(1 << 20)}),
			others{"lifecycle objects": doctor.Failure}, "expires objects after 1 day (some of them)"},
		"by our tag": {filtered(1, types.LifecycleRuleFilter{Tag: &types.Tag{Key: aws.String("team"), Value: aws.String("a")}}),
			others{"lifecycle objects": doctor.Failure}, "expires objects after 1 day (some of them)"},
		"a day that was": {from(time.Date(2020, 1, 2, 0, 0, 0, 0, time.UTC)),
			others{"lifecycle objects": doctor.Failure}, "from 2020-01-02 on, however young"},
		"a day to come": {from(time.Date(2999, 1, 2, 0, 0, 0, 0, time.UTC)),
			others{"lifecycle objects": doctor.Warning}, "from 2999-01-02 on, however young"},
		"by a tag of others": {rule: filtered(1, types.LifecycleRuleFilter{Tag: &types.Tag{Key: aws.String("team"), Value: aws.String("b")}})},
		"our probes":         {rule: filtered(1, types.LifecycleRuleFilter{Prefix: aws.String(prefix + "/.doctor/")})},
		"late enough":        {rule: filtered(2, types.LifecycleRuleFilter{Prefix: aws.String(prefix + "/" + someWorkspace + "/")})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.settings.S3Tags = map[string]string{"team": "a"}
			w.install(t, c.rule, theirRule(2, func(r *types.LifecycleRule) { r.ID = aws.String("good") }))
			texts, results, err := w.fix(t)
			if len(texts) != 0 || err != nil {
				t.Errorf("remedies %v, %v", texts, err)
			}
			r := found(t, results, c.want)["lifecycle objects"]
			if c.says != "" {
				says(t, r, `rule "theirs" `, c.says, "live objects", "needed for up to 26h0m0s")
			}
			if strings.Contains(r.String(), "good") {
				t.Errorf("a rule without harm in %q", r)
			}
		})
	}
}

// What neither server here keeps comes from a front.
func TestRulesThatNoServerHereKeeps(t *testing.T) {
	t.Parallel()
	const good = `<Rule><ID>good</ID><Status>Enabled</Status><Filter/><Expiration><Days>2</Days></Expiration>
		<AbortIncompleteMultipartUpload><DaysAfterInitiation>2</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>`
	theirs := func(filter, does string) string {
		return `<Rule><ID>theirs</ID><Status>Enabled</Status><Filter>` + filter + `</Filter>` + does + `</Rule>`
	}
	for name, c := range map[string]struct {
		rule  string
		check string
		says  string
	}{
		"archived early": {theirs("", `<Transition><Days>0</Days><StorageClass>GLACIER</StorageClass></Transition>`),
			"lifecycle objects", "moves objects to GLACIER, where they cannot be read, after 0 days"},
		"archived by date": {theirs("", `<Transition><Date>2020-01-02T00:00:00Z</Date><StorageClass>DEEP_ARCHIVE</StorageClass></Transition>`),
			"lifecycle objects", "from 2020-01-02 on"},
		"another price":    {rule: theirs("", `<Transition><Days>0</Days><StorageClass>GLACIER_IR</StorageClass></Transition>`)},
		"archived in time": {rule: theirs("", `<Transition><Days>2</Days><StorageClass>GLACIER</StorageClass></Transition>`)},
		"uploads of some": {theirs(`<Prefix>`+prefix+`/0f</Prefix>`, `<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>`),
			"lifecycle unfinished", "aborts unfinished uploads after 1 day (some of them)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.settings.MaxUploadTime, w.settings.OrphanGrace, w.settings.UploadTTL = 25*time.Hour, 26*time.Hour, 5*time.Hour
			w.behind(t, instead(func(r *http.Request) bool { return r.URL.Query().Has("lifecycle") }, func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write([]byte(`<LifecycleConfiguration>` + c.rule + good + `</LifecycleConfiguration>`))
			}))
			want := others{}
			if c.check != "" {
				want[c.check] = doctor.Failure
			}
			if byName := found(t, w.run(t), want); c.check != "" {
				says(t, byName[c.check], `rule "theirs" `, c.says)
			}
		})
	}
}

// A rule for the whole bucket would take what others have in it.
func TestNoRuleWithoutAPrefix(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.expire(t, "elsewhere/", 1)
	w.settings.S3Prefix = ""
	texts, results, err := w.fix(t)
	if len(texts) != 0 || err != nil {
		t.Errorf("remedies %v, %v", texts, err)
	}
	says(t, found(t, results, others{"lifecycle objects": doctor.Warning})["lifecycle objects"], "set S3_PREFIX")
	if diff := cmp.Diff(map[string]int32{"theirs": 1}, w.installed(t)); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}

// With settings that serve refuses, nobody knows how long files are needed.
func TestNoRuleFromWrongSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.expire(t, "elsewhere/", 1)
	w.settings.UploadTTL = 0
	texts, results, err := w.fix(t)
	if len(texts) != 0 || err != nil {
		t.Errorf("remedies %v, %v", texts, err)
	}
	byName := found(t, results, others{"settings": doctor.Failure, "lifecycle objects": doctor.Warning})
	says(t, byName["lifecycle objects"], "correct the settings")
}

// Nor without the rows, which other settings may have given more time.
func TestNoRuleWithoutTheRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.expire(t, "elsewhere/", 1)
	w.settings.DatabaseURL = "postgres://u@" + closed(t) + "/x"
	texts, results, err := w.fix(t)
	if len(texts) != 0 || err != nil {
		t.Errorf("remedies %v, %v", texts, err)
	}
	want := withoutDatabase()
	want["lifecycle objects"] = doctor.Warning
	says(t, found(t, results, want)["lifecycle objects"], "read in the database")
}

// The rows here outlive what the settings would give them now.
func TestRuleSparesWhatWasGivenMoreTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(t, `INSERT INTO pending_uploads (workspace_id, object_key, size_bytes, filename, expires_at) VALUES
			(gen_random_uuid(), 'staged/a/b', 1, 'x', now() + interval '72 hours'),
			(gen_random_uuid(), 'staged/a/c', 1, 'x', 'infinity')`,
		`INSERT INTO pending_uploads (workspace_id, content, size_bytes, filename, expires_at) VALUES
			(gen_random_uuid(), 'x', 1, 'inline', now() + interval '900 hours')`)
	says(t, found(t, w.run(t), others{"lifecycle objects": doctor.Failure})["lifecycle objects"], "after 2 days", "needed for up to 74h0m0s")

	w.expire(t, "elsewhere/", 1)
	texts, results, err := w.fix(t)
	if err != nil || len(texts) != 1 {
		t.Fatalf("remedies %v, %v", texts, err)
	}
	says(t, doctor.Result{Finding: texts[0]}, "expire objects after 4 days (they are needed for up to 74h0m0s)")
	says(t, found(t, results, nil)["lifecycle objects"], "after 4 days")
}

// A database that was never migrated gave nothing any time.
func TestRuleBeforeTheFirstMigration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.expire(t, "elsewhere/", 1)
	w.exec(t, `DROP TABLE pending_uploads CASCADE`)
	texts, _, err := w.fix(t)
	if err != nil || len(texts) != 1 {
		t.Errorf("remedies %v, %v", texts, err)
	}
}

// The rule that --fix installed is lengthened where it has become too short, and
// never shortened.
func TestOwnRuleOnlyGrows(t *testing.T) {
	t.Parallel()
	const own = "pendinguploads-" + prefix
	for name, c := range map[string]struct {
		days   int32
		status types.ExpirationStatus
		unseen bool // that it is MinIO, which has uploads looked after
		want   int32
		text   string
	}{
		"too short":        {days: 1, status: types.ExpirationStatusEnabled, want: 2, text: "expire objects after 2 days"},
		"long, off":        {days: 30, status: types.ExpirationStatusDisabled, want: 30, text: "expire objects after 30 days"},
		"long, incomplete": {days: 30, status: types.ExpirationStatusEnabled, unseen: true, want: 30, text: "expire objects after 30 days"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.install(t, theirRule(c.days, func(r *types.LifecycleRule) {
				r.ID, r.Status, r.Filter = aws.String(own), c.status, &types.LifecycleRuleFilter{Prefix: aws.String(prefix + "/")}
			}))
			if c.unseen {
				w.behind(t, editing(func(_ *http.Request, h http.Header) { h.Set("Server", "something else") }))
			}
			texts, _, _ := w.fix(t)
			if len(texts) != 1 {
				t.Fatalf("remedies %v", texts)
			}
			says(t, doctor.Result{Finding: texts[0]}, c.text)
			if diff := cmp.Diff(map[string]int32{own: c.want}, w.installed(t)); diff != "" {
				t.Errorf("rules (-want +got):\n%s", diff)
			}
		})
	}
}

// What others' rules do already is not done twice.
func TestFixInstallsOnlyWhatIsMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.behind(t, editing(func(_ *http.Request, h http.Header) { h.Set("Server", "something else") }))
	texts, _, _ := w.fix(t)
	if len(texts) != 1 || strings.Contains(texts[0], "expire") || !strings.Contains(texts[0], "abort unfinished uploads after 1 day;") {
		t.Errorf("remedies %v", texts)
	}
}
