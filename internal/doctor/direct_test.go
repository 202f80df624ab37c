package doctor_test

import (
	"net/http"
	"testing"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/doctor"
)

// bound is a world with direct uploads and an identity that the documented policy
// binds.
func bound(t *testing.T) *world {
	t.Helper()
	w := newWorldOn(t, devstack.MinIOUser(t))
	w.expire(t, prefix+"/", 2)
	return w
}

func TestDirectUploads(t *testing.T) {
	t.Parallel()
	t.Run("bound by the policy", func(t *testing.T) {
		t.Parallel()
		w := bound(t)
		says(t, found(t, w.run(t), nil)["direct uploads"], "what was signed, and nothing else")
		w.empty(t)
	})
	t.Run("as root", func(t *testing.T) {
		t.Parallel()
		w := newWorldOn(t, devstack.MinIO(t))
		w.expire(t, prefix+"/", 2)
		says(t, found(t, w.run(t), others{"direct uploads": doctor.Failure})["direct uploads"],
			"copy", "x-amz-copy-source", "policy in docs/direct.md", "root user", "DIRECT_TTL=0")
		w.empty(t)
	})
	t.Run("as root, and not wanted", func(t *testing.T) {
		t.Parallel()
		says(t, found(t, newWorld(t).run(t), nil)["direct uploads"], "DIRECT_TTL is 0")
	})
	t.Run("bound by nothing", func(t *testing.T) {
		t.Parallel()
		w := bound(t)
		// The checksum is told to nobody, and the condition is taken for fulfilled.
		hide := editing(func(_ *http.Request, h http.Header) { h.Del("X-Amz-Checksum-Sha256") })
		w.behind(t, func(store http.Handler) http.Handler {
			return hide(instead(func(r *http.Request) bool {
				return r.Header.Get("If-None-Match") != ""
			}, func(w http.ResponseWriter, _ *http.Request) { refusal(w, http.StatusNotImplemented, "NotImplemented") })(store))
		})
		says(t, found(t, w.run(t), others{
			"checksum": doctor.Warning, "conditional writes": doctor.Warning, "direct uploads": doctor.Warning,
		})["direct uploads"], "see checksum and conditional writes")
		w.empty(t)
	})
	t.Run("nobody knows", func(t *testing.T) {
		t.Parallel()
		w := bound(t)
		w.behind(t, instead(func(r *http.Request) bool {
			return r.Header.Get("X-Amz-Copy-Source") != ""
		}, func(w http.ResponseWriter, _ *http.Request) { refusal(w, http.StatusServiceUnavailable, "SlowDown") }))
		says(t, found(t, w.run(t), others{"direct uploads": doctor.Warning})["direct uploads"], "nobody knows", "503")
		w.empty(t)
	})
}
