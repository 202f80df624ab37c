package doctor_test

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/internal/doctor"
)

// TestPermissionsOneByOne refuses exactly one kind of request each.
func TestPermissionsOneByOne(t *testing.T) {
	t.Parallel()
	query := func(method, parameter string) func(*world, *http.Request) bool {
		return func(_ *world, r *http.Request) bool {
			return r.Method == method && r.URL.Query().Has(parameter)
		}
	}
	object := func(method string) func(*world, *http.Request) bool {
		return func(w *world, r *http.Request) bool { return r.Method == method && w.plain(r) }
	}
	for name, c := range map[string]struct {
		deny   func(*world, *http.Request) bool
		skips  []string
		also   others
		action string
		left   bool // something must be
	}{
		"put": {deny: object(http.MethodPut), action: "s3:PutObject", skips: []string{
			"get", "head", "delete", "delete many", "checksum", "conditional writes", "presign", "public presign", "direct uploads", "public access"}},
		"get":             {deny: object(http.MethodGet), action: "s3:GetObject", skips: []string{"presign", "public presign", "direct uploads"}},
		"head":            {deny: object(http.MethodHead), action: "s3:GetObject", skips: []string{"checksum", "direct uploads"}},
		"list":            {deny: query(http.MethodGet, "list-type"), action: "s3:ListBucket"},
		"list unfinished": {deny: query(http.MethodGet, "uploads"), action: "s3:ListBucketMultipartUploads"},
		"delete":          {deny: object(http.MethodDelete), action: "s3:DeleteObject", skips: []string{"conditional writes", "direct uploads"}},
		"delete many":     {deny: query(http.MethodPost, "delete"), action: "s3:DeleteObject"},
		"multipart create": {deny: query(http.MethodPost, "uploads"), action: "s3:PutObject",
			skips: []string{"multipart part", "multipart complete", "multipart abort"}},
		"multipart part":     {deny: query(http.MethodPut, "uploadId"), action: "s3:PutObject", skips: []string{"multipart complete"}},
		"multipart complete": {deny: query(http.MethodPost, "uploadId"), action: "s3:PutObject"},
		"multipart abort": {deny: query(http.MethodDelete, "uploadId"), action: "s3:AbortMultipartUpload",
			also: others{"probes": doctor.Warning}, left: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.behind(t, denying(func(r *http.Request) bool { return c.deny(w, r) }))
			want := others{name: doctor.Failure}.skipped(c.skips...)
			for n, status := range c.also {
				want[n] = status
			}
			says(t, found(t, w.run(t), want)[name], "refused: 403", "grant "+c.action)
			if !c.left {
				w.empty(t)
			}
		})
	}
}

// What an identity that may do no more than the service needs cannot tell is said
// to be unknown, and nothing else.
func TestWithTheLeastPermissions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.behind(t, denying(func(r *http.Request) bool {
		q := r.URL.Query()
		return q.Has("lifecycle") || q.Has("versioning") || q.Has("policyStatus") || q.Has("cors")
	}))
	byName := found(t, w.run(t), others{}.skipped("versioning", "lifecycle unfinished", "lifecycle objects"))
	says(t, byName["versioning"], "s3:GetBucketVersioning")
	says(t, byName["lifecycle objects"], "s3:GetLifecycleConfiguration")
	says(t, byName["public access"], "the policy's status is not known")
	w.empty(t)
}

func TestProbesThatCannotBeRemovedAreNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.behind(t, denying(func(r *http.Request) bool {
		return r.Method == http.MethodDelete && w.plain(r) || r.Method == http.MethodPost && r.URL.Query().Has("delete")
	}))
	byName := found(t, w.run(t), others{
		"delete": doctor.Failure, "delete many": doctor.Failure, "probes": doctor.Warning, "conditional writes": doctor.Skipped, "direct uploads": doctor.Skipped,
	})
	says(t, byName["probes"], prefix+"/.doctor/", "by hand")
}

func TestResultsAreLines(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]doctor.Result{
		"ok    put: allowed":                 {Name: "put", Status: doctor.OK, Finding: "allowed"},
		"FAIL  put: refused — fix: grant it": {Name: "put", Status: doctor.Failure, Finding: "refused", Fix: "grant it"},
		"warn  cors: denied — fix: allow":    {Name: "cors", Status: doctor.Warning, Finding: "denied", Fix: "allow"},
		"skip  get: not examined, see put":   {Name: "get", Status: doctor.Skipped, Finding: "not examined, see put"},
	} {
		if diff := cmp.Diff(want, r.String()); diff != "" {
			t.Error(diff)
		}
	}
}
