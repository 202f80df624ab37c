package doctor_test

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/internal/doctor"
)

// TestReadingOneByOne: to read an object and to read its head are one action of
// S3, and the doctor does both with one key and no body, so that no identity is
// refused one of them alone. A front refuses it in the store's place.
func TestReadingOneByOne(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		method string
		skips  []string
	}{
		"get":  {http.MethodGet, []string{"presign", "public presign", "direct uploads"}},
		"head": {http.MethodHead, []string{"checksum", "direct uploads"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.behind(t, denying(func(r *http.Request) bool { return r.Method == c.method && w.plain(r) }))
			says(t, found(t, w.run(t), others{name: doctor.Failure}.skipped(c.skips...))[name], "refused: 403", "grant s3:GetObject")
			w.empty(t)
		})
	}
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
