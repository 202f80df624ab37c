package metadata_test

import (
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

func TestUploadsAreInsertedOnceAndAnnounced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second, other := newUpload(t), newUpload(t), newUpload(t)
	if _, err := w.uploads.Insert(t.Context(), w.ws, []metadata.NewUpload{first, second}); err != nil {
		t.Fatal(err)
	}
	_, err := w.uploads.Insert(t.Context(), w.ws, []metadata.NewUpload{other, second})
	if !metadata.AlreadyInserted(err) {
		t.Errorf("again: %v", err)
	}
	if metadata.AlreadyInserted(nil) || metadata.AlreadyInserted(storage.ErrNotFound) {
		t.Error("anything counts as inserted")
	}
	if n := query[int64](t, w.pool, `SELECT count(*) FROM pending_uploads`); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
	// The rows may go; the feed remembers.
	if _, err := w.pool.Exec(t.Context(), `DELETE FROM pending_uploads`); err != nil {
		t.Fatal(err)
	}
	hourAgo := time.Now().Add(-time.Hour)
	for name, c := range map[string]struct {
		ws    storage.WorkspaceID
		files []storage.FileID
		since time.Time
		want  bool
	}{
		"one of them":       {w.ws, []storage.FileID{other.FileID, second.FileID}, hourAgo, true},
		"none of them":      {w.ws, []storage.FileID{other.FileID}, hourAgo, false},
		"no file":           {w.ws, nil, hourAgo, false},
		"before that time":  {w.ws, []storage.FileID{first.FileID}, time.Now().Add(time.Hour), false},
		"another workspace": {w.workspace(t, "other", nil), []storage.FileID{first.FileID}, hourAgo, false},
	} {
		if got, err := w.activity.Announced(t.Context(), c.ws, c.files, c.since); got != c.want || err != nil {
			t.Errorf("%s: %t, %v, want %t", name, got, err, c.want)
		}
	}
}
