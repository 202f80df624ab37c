package handlers_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/molecule-ai/pendinguploads/storage"
)

func TestLimitsAnnouncedAreLimitsEnforced(t *testing.T) {
	t.Parallel()
	for _, limits := range []storage.Limits{
		storage.DefaultLimits(),
		{MaxFileBytes: 6 << 20, MaxRequestBytes: 7 << 20},
	} {
		w := newServerWith(t, setup{limits: limits})
		ws, token := w.workspace("poll")
		var announced struct {
			File    int64 `json:"per_file_bytes"`
			Request int64 `json:"per_request_bytes"`
		}
		w.do("GET", "/uploads/limits", "", nil).json(t, &announced)
		if announced.File != limits.MaxFileBytes || announced.Request != limits.MaxRequestBytes {
			t.Errorf("announced %+v, configured %+v", announced, limits)
		}
		exactly := strings.Repeat("x", int(announced.File))
		w.mustUpload(ws, token, part{name: "a.bin", content: exactly})
		w.upload(ws, token, part{name: "a.bin", content: exactly + "x"}).want(t, 413, "file exceeds per-file cap")

		// A request of exactly the cap, and of one byte more.
		empty, _ := multipartBody(t, part{name: "a.bin"}, part{name: "b.bin"})
		room := announced.Request - int64(len(empty))
		first := min(room-1, announced.File)
		split := func(n int64) (string, string) {
			return strings.Repeat("x", int(first)), strings.Repeat("y", int(n-first))
		}
		if room-first <= announced.File {
			a, b := split(room)
			w.mustUpload(ws, token, part{name: "a.bin", content: a}, part{name: "b.bin", content: b})
			a, b = split(room + 1)
			w.upload(ws, token, part{name: "a.bin", content: a}, part{name: "b.bin", content: b}).want(t, 413, "request exceeds cap")
		}
	}

	// The table pins the highest limit that can be configured.
	w := newServer(t)
	insert := func(size int64) error {
		_, err := w.pool.Exec(t.Context(), fmt.Sprintf(
			`INSERT INTO pending_uploads (workspace_id, object_key, size_bytes, filename) VALUES (gen_random_uuid(), 'k', %d, 'a')`, size))
		return err
	}
	if err := insert(storage.MaxFileBytesCeiling); err != nil {
		t.Errorf("the table refuses the ceiling: %v", err)
	}
	if err := insert(storage.MaxFileBytesCeiling + 1); err == nil {
		t.Error("the table takes more than the ceiling")
	}
}
