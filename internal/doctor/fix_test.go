package doctor_test

import (
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/doctor"
)

// fix examines, sets up what can be, and returns what is then so.
func (w *world) fix(t *testing.T) (texts []string, results []doctor.Result, err error) {
	t.Helper()
	d := doctor.New(doctor.Config{Settings: w.settings, Credentials: w.keys})
	defer d.Close()
	none := func(doctor.Result) {}
	results = d.Run(t.Context(), none)
	remedies := d.Remedies(results)
	for _, r := range remedies {
		texts = append(texts, r.Text)
	}
	results, err = d.Apply(t.Context(), remedies, results, none)
	return texts, results, err
}

func TestFixSetsALifecycleRuleBesideOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.expire(t, "elsewhere/", 1)
	texts, results, err := w.fix(t)
	if err != nil {
		t.Error(err)
	}
	want := []string{"lifecycle rule of bucket " + w.s3.Bucket + ` for keys that begin with "staged/": expire objects after 2 days (they are needed for up to 26h0m0s); the rules of others stay`}
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Errorf("remedies (-want +got):\n%s", diff)
	}
	found(t, results, nil)
	out, err := w.s3.Client().GetBucketLifecycleConfiguration(t.Context(), &s3.GetBucketLifecycleConfigurationInput{Bucket: &w.s3.Bucket})
	if err != nil {
		t.Fatal(err)
	}
	rules := map[string]int32{}
	for _, r := range out.Rules {
		rules[aws.ToString(r.Filter.Prefix)] = aws.ToInt32(r.Expiration.Days)
	}
	if diff := cmp.Diff(map[string]int32{"elsewhere/": 1, "staged/": 2}, rules); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if texts, _, err := w.fix(t); len(texts) != 0 || err != nil {
		t.Errorf("there is more to set up: %v, %v", texts, err)
	}
}

func TestFixSetsCORS(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, devstack.VersityGW(t))
	texts, results, err := w.fix(t)
	if err != nil {
		t.Error(err)
	}
	if len(texts) != 1 {
		t.Errorf("remedies: %v", texts)
	}
	found(t, results, others{"lifecycle unfinished": doctor.Warning, "lifecycle objects": doctor.Warning})
}

// A store that knows a part of the rule keeps that part.
func TestFixSaysWhatTheStoreDoesNotKnow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.expire(t, "elsewhere/", 1)
	w.behind(t, editing(func(_ *http.Request, h http.Header) { h.Set("Server", "something else") }))
	_, results, err := w.fix(t)
	if err == nil {
		t.Error("no error")
	}
	found(t, results, others{"lifecycle unfinished": doctor.Warning})
}

func TestFixSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.expire(t, "elsewhere/", 1)
	w.behind(t, denying(func(r *http.Request) bool { return r.Method == http.MethodPut && r.URL.Query().Has("lifecycle") }))
	_, results, err := w.fix(t)
	if err == nil {
		t.Fatal("no error")
	}
	says(t, doctor.Result{Finding: err.Error()}, "s3:PutLifecycleConfiguration", "403 AccessDenied")
	found(t, results, others{"lifecycle objects": doctor.Warning})
}

// A rule of others that takes too much is theirs to change.
func TestFixLeavesHarmfulRulesAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.expire(t, "", 1)
	texts, results, err := w.fix(t)
	if len(texts) != 0 || err != nil {
		t.Errorf("remedies %v, %v", texts, err)
	}
	found(t, results, others{"lifecycle objects": doctor.Failure})
}
