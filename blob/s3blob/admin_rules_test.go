package s3blob_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

const workspace = "0f8fad5b-d9cb-469f-a165-70867728950e"

// picking is an expiry rule with a filter.
func picking(id string, days int32, f types.LifecycleRuleFilter) types.LifecycleRule {
	r := expiry(id, "", days, types.ExpirationStatusEnabled)
	r.Filter = &f
	return r
}

func tag(key, value string) *types.Tag { return &types.Tag{Key: &key, Value: &value} }

func setRules(t *testing.T, server devstack.S3, rules ...types.LifecycleRule) {
	t.Helper()
	if _, err := client(server).PutBucketLifecycleConfiguration(t.Context(), &s3.PutBucketLifecycleConfigurationInput{
		Bucket: &server.Bucket, LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: rules},
	}); err != nil {
		t.Fatal(err)
	}
}

func ruleIDs(rules []s3blob.LifecycleRule) (all, some []string) {
	for _, r := range rules {
		if r.Some {
			some = append(some, r.ID)
		} else {
			all = append(all, r.ID)
		}
	}
	return all, some
}

// TestRulesThatTouchObjects has MinIO keep them.
func TestRulesThatTouchObjects(t *testing.T) {
	t.Parallel()
	server := devstack.MinIO(t)
	cfg := config(t, server)
	cfg.Tags = map[string]string{"team": "a", "stage": "b"}
	a := admin(t, open(t, cfg))
	date := time.Date(2030, 1, 2, 0, 0, 0, 0, time.UTC)
	dated := expiry("date", "", 0, types.ExpirationStatusEnabled)
	dated.Expiration = &types.LifecycleExpiration{Date: &date}
	setRules(t, server,
		expiry("bucket", "", 9, types.ExpirationStatusEnabled),
		expiry("half a name", "some/pre", 8, types.ExpirationStatusEnabled),
		expiry("another name", "some/prefixes", 1, types.ExpirationStatusEnabled),
		expiry("half an id", "some/prefix/0f8fad5b-d", 7, types.ExpirationStatusEnabled),
		expiry("a workspace", "some/prefix/"+workspace+"/", 6, types.ExpirationStatusEnabled),
		expiry("a file", "some/prefix/"+workspace+"/"+workspace, 6, types.ExpirationStatusEnabled),
		expiry("beyond a file", "some/prefix/"+workspace+"/"+workspace+"0", 1, types.ExpirationStatusEnabled),
		expiry("no id", "some/prefix/cafe/", 1, types.ExpirationStatusEnabled),
		expiry("probes", "some/prefix/.doctor/", 1, types.ExpirationStatusEnabled),
		expiry("off", "", 1, types.ExpirationStatusDisabled),
		picking("our tag", 5, types.LifecycleRuleFilter{Tag: tag("team", "a")}),
		picking("our tags", 5, types.LifecycleRuleFilter{And: &types.LifecycleRuleAndOperator{Tags: []types.Tag{*tag("team", "a"), *tag("stage", "b")}}}),
		picking("another value", 1, types.LifecycleRuleFilter{Tag: tag("team", "b")}),
		picking("one more tag", 1, types.LifecycleRuleFilter{And: &types.LifecycleRuleAndOperator{Tags: []types.Tag{*tag("team", "a"), *tag("x", "y")}}}),
		picking("small ones", 4, types.LifecycleRuleFilter{ObjectSizeLessThan: aws.Int64(1 << 20)}),
		picking("empty ones", 1, types.LifecycleRuleFilter{ObjectSizeLessThan: aws.Int64(1)}),
		picking("large ones", 4, types.LifecycleRuleFilter{And: &types.LifecycleRuleAndOperator{
			Prefix: aws.String("some/"), ObjectSizeGreaterThan: aws.Int64(1 << 20),
		}}),
		picking("larger than files", 1, types.LifecycleRuleFilter{ObjectSizeGreaterThan: aws.Int64(100 << 20)}),
		dated,
	)
	rules, err := a.LifecycleRules(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all, some := ruleIDs(rules)
	if diff := cmp.Diff([]string{"bucket", "half a name", "date"}, all); diff != "" {
		t.Errorf("rules for all objects (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"half an id", "a workspace", "a file", "our tag", "our tags", "small ones", "large ones"}, some); diff != "" {
		t.Errorf("rules for some objects (-want +got):\n%s", diff)
	}
	if last := rules[len(rules)-1]; !last.ExpireDate.Equal(date) || last.ExpireDays != 0 {
		t.Errorf("the rule with a date: %+v", last)
	}
	if got := s3blob.Covering(rules); got != (s3blob.Lifecycle{ExpireDays: 8}) {
		t.Errorf("Covering = %+v, want the sooner of two that spare nothing", got)
	}
}

// TestRulesWithoutAPrefix: in a bucket that is not the service's alone, most
// folders are those of others.
func TestRulesWithoutAPrefix(t *testing.T) {
	t.Parallel()
	server := devstack.MinIO(t)
	a, err := open(t, config(t, server)).Admin("")
	if err != nil {
		t.Fatal(err)
	}
	setRules(t, server,
		expiry("logs", "logs/", 1, types.ExpirationStatusEnabled),
		expiry("a workspace", workspace+"/", 6, types.ExpirationStatusEnabled),
		expiry("bucket", "", 9, types.ExpirationStatusEnabled),
	)
	rules, err := a.LifecycleRules(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all, some := ruleIDs(rules)
	if diff := cmp.Diff([][]string{{"bucket"}, {"a workspace"}}, [][]string{all, some}); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	for _, want := range []s3blob.Lifecycle{{ExpireDays: 30}, {AbortDays: 1, ExpireDays: 30}} {
		if err := a.SetLifecycle(t.Context(), want); err == nil {
			t.Errorf("SetLifecycle(%+v) took the whole bucket", want)
		}
	}
	out, err := client(server).GetBucketLifecycleConfiguration(t.Context(), &s3.GetBucketLifecycleConfigurationInput{Bucket: &server.Bucket})
	if err != nil || len(out.Rules) != 3 {
		t.Errorf("%d rules, %v, want those of others", len(out.Rules), err)
	}
}

// TestRulesThatArchive needs classes that neither server here has.
func TestRulesThatArchive(t *testing.T) {
	t.Parallel()
	date := time.Date(2030, 1, 2, 0, 0, 0, 0, time.UTC)
	moves := func(id string, to ...types.Transition) types.LifecycleRule {
		return types.LifecycleRule{ID: &id, Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{}, Transitions: to}
	}
	api := &lifecycles{rules: []types.LifecycleRule{
		moves("readable", types.Transition{Days: aws.Int32(1), StorageClass: types.TransitionStorageClassStandardIa},
			types.Transition{Days: aws.Int32(2), StorageClass: types.TransitionStorageClassGlacierIr}),
		moves("sooner", types.Transition{Days: aws.Int32(9), StorageClass: types.TransitionStorageClassDeepArchive},
			types.Transition{Days: aws.Int32(3), StorageClass: types.TransitionStorageClassGlacier}),
		moves("at once", types.Transition{Days: aws.Int32(0), StorageClass: types.TransitionStorageClassDeepArchive}),
		moves("date", types.Transition{Date: &date, StorageClass: types.TransitionStorageClassGlacier}),
	}}
	store, err := s3blob.New(s3blob.Config{Bucket: "b", Pool: pool(t, blob.PoolConfig{})}, api)
	if err != nil {
		t.Fatal(err)
	}
	got, err := admin(t, store).LifecycleRules(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []s3blob.LifecycleRule{
		{ID: "sooner", Archive: "GLACIER", ArchiveDays: 3},
		{ID: "at once", Archive: "DEEP_ARCHIVE"},
		{ID: "date", Archive: "GLACIER", ArchiveDate: date},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}

// TestOwnRule is known by its name, on or off.
func TestOwnRule(t *testing.T) {
	t.Parallel()
	server := devstack.MinIO(t)
	a := admin(t, open(t, config(t, server)))
	if own, err := a.OwnLifecycle(t.Context()); err != nil || own != (s3blob.Lifecycle{}) {
		t.Errorf("OwnLifecycle before = %+v, %v", own, err)
	}
	if err := a.SetLifecycle(t.Context(), s3blob.Lifecycle{ExpireDays: 4}); err != nil {
		t.Fatal(err)
	}
	rules, err := a.LifecycleRules(t.Context())
	want := []s3blob.LifecycleRule{{ID: "pendinguploads-some/prefix", Own: true, ExpireDays: 4}}
	if diff := cmp.Diff(want, rules); err != nil || diff != "" {
		t.Errorf("LifecycleRules: %v (-want +got):\n%s", err, diff)
	}
	setRules(t, server, expiry("pendinguploads-some/prefix", "some/prefix/", 4, types.ExpirationStatusDisabled))
	if rules, err := a.LifecycleRules(t.Context()); err != nil || len(rules) != 0 {
		t.Errorf("LifecycleRules = %+v, %v, want none that is enabled", rules, err)
	}
	if own, err := a.OwnLifecycle(t.Context()); err != nil || own != (s3blob.Lifecycle{ExpireDays: 4}) {
		t.Errorf("OwnLifecycle = %+v, %v", own, err)
	}
}
