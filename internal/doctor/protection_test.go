package doctor_test

import (
	"net/http"
	"testing"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/doctor"
)

// demanding refuses objects and uploads that are begun without a header, as a
// bucket's policy may. Parts carry none.
func (w *world) demanding(header string) func(http.Handler) http.Handler {
	return denying(func(r *http.Request) bool {
		q := r.URL.Query()
		begins := r.Method == http.MethodPut && !q.Has("uploadId") || r.Method == http.MethodPost && q.Has("uploads")
		return begins && w.isObject(r) && r.Header.Get(header) == ""
	})
}

// Every probe is put as the service puts files.
func TestProbesCarryTheTagsOfFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.settings.S3Tags = map[string]string{"team": "a"}
	w.behind(t, w.demanding("X-Amz-Tagging"))
	found(t, w.run(t), nil)
	w.empty(t)
}

// VersityGW takes the request and encrypts nothing. It has no lifecycle rules and
// no CORS before it is set.
func TestProbesCarryTheEncryptionOfFiles(t *testing.T) {
	t.Parallel()
	for header, set := range map[string]func(w *world){
		"X-Amz-Server-Side-Encryption": func(w *world) { w.settings.S3SSE = "AES256" },
		"X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": func(w *world) {
			w.settings.S3SSE, w.settings.S3SSEKMSKeyID = "aws:kms", "key"
		},
	} {
		w := newWorldOn(t, devstack.VersityGW(t))
		set(w)
		w.behind(t, w.demanding(header))
		found(t, w.run(t), others{"lifecycle unfinished": doctor.Warning, "lifecycle objects": doctor.Warning, "cors": doctor.Warning})
		w.empty(t)
	}
}
