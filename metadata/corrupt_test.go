package metadata_test

import (
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/metadata"
)

func TestCorruptUploadsAreMarkedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	records, err := w.uploads.Insert(t.Context(), w.ws, []metadata.NewUpload{newUpload(t), newUpload(t)})
	if err != nil {
		t.Fatal(err)
	}
	count := func(want int64) {
		t.Helper()
		if n, err := w.uploads.CountCorrupt(t.Context()); err != nil || n != want {
			t.Errorf("%d corrupt uploads, %v; want %d", n, err, want)
		}
	}
	count(0)
	other := w.workspace(t, "other", nil)
	if err := w.uploads.MarkCorrupt(t.Context(), other, records[0].FileID); err != nil {
		t.Errorf("of a row that is not there: %v", err)
	}
	count(0)
	var first time.Time
	for range 2 {
		if err := w.uploads.MarkCorrupt(t.Context(), w.ws, records[0].FileID); err != nil {
			t.Fatal(err)
		}
		count(1)
		at := query[time.Time](t, w.pool, `SELECT corrupt_at FROM pending_uploads WHERE corrupt_at IS NOT NULL`)
		if !first.IsZero() && !at.Equal(first) {
			t.Errorf("the mark moved from %v to %v", first, at)
		}
		first = at
	}
}
