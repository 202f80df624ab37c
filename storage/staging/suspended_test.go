package staging_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/stagingtest"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/storagetest"
)

// The host sleeps for two hours in the middle of an upload. Its timers slept too,
// but somebody's orphan sweep did not, and took the object of the first file.
func TestAnUploadThatWasSuspendedCommitsNothing(t *testing.T) {
	t.Parallel()
	h := stagingtest.Placement{Server: devstack.MinIO}.Open(stagingtest.Staging)(t, storagetest.Options{})
	ws := workspace(t)
	swept := storage.OrphanResult{}
	_, err := h.Storage.PutBatch(t.Context(), ws, storage.Batch{Uploads: func(yield func(storage.Upload, error) bool) {
		if !yield(storage.Upload{Filename: "before", Body: bytes.NewReader(make([]byte, 100))}, nil) {
			return
		}
		for deadline := time.Now().Add(time.Minute); len(h.Objects(t)) == 0; {
			if time.Now().After(deadline) {
				t.Fatal("the first file's object was not stored")
			}
		}
		h.AgeObjects(2 * time.Hour)
		var err error
		if swept, err = h.Sweeper.SweepOrphans(t.Context(), time.Hour); err != nil {
			t.Error(err)
		}
		yield(storage.Upload{Filename: "after", Body: bytes.NewReader(make([]byte, 100))}, nil)
	}})
	if swept.Objects != 1 {
		t.Fatalf("the orphan sweep took %+v, want the first file's object", swept)
	}
	if err == nil {
		t.Error("the batch was committed, with a file whose object is gone")
	}
	if rows, objects := h.Rows(t, ws), h.Objects(t); rows != 0 || len(objects) != 0 {
		t.Errorf("%d rows and objects %v are left", rows, objects)
	}
}
