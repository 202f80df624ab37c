package metadata_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

func TestGetFetchedIsGetWithAStamp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	inline := w.stage(t, func(up *metadata.NewUpload) { up.ObjectKey, up.Content = "", []byte("hello") })
	for _, r := range []storage.Record{w.stage(t, nil), inline} {
		for i := range 2 {
			got, err := w.uploads.GetFetched(t.Context(), w.ws, r.FileID)
			if err != nil {
				t.Fatal(err)
			}
			if got.FetchedAt == nil || r.FetchedAt != nil && !got.FetchedAt.After(*r.FetchedAt) {
				t.Errorf("%s, time %d: fetched at %v after %v", r.Content.Placement, i, got.FetchedAt, r.FetchedAt)
			}
			r, err = w.uploads.Get(t.Context(), w.ws, r.FileID)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(r, got); diff != "" {
				t.Errorf("%s, time %d differs from what Get reads (-get +got):\n%s", r.Content.Placement, i, diff)
			}
		}
	}
}

func TestGetFetchedStampsWhatGetSeesAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	readable := metadata.NewUploads(metadata.UploadsConfig{DB: w.pool, ReadAfterAck: true})
	for name, test := range map[string]struct {
		set     string
		uploads *metadata.Uploads
		foreign bool
		found   bool
	}{
		"acked":                       {"acked_at = now()", w.uploads, false, false},
		"acked, readable after ack":   {"acked_at = now()", readable, false, true},
		"expired":                     {"expires_at = now() - interval '1 s'", readable, false, false},
		"being swept":                 {"sweeping_at = now()", readable, false, false},
		"foreign, readable after ack": {"mimetype = ''", readable, true, false},
	} {
		r := w.stage(t, nil)
		w.exec(t, `UPDATE pending_uploads SET `+test.set+` WHERE file_id = $1`, uuid.UUID(r.FileID))
		ws := w.ws
		if test.foreign {
			ws = storage.WorkspaceID(uuid.New())
		}
		_, err := test.uploads.GetFetched(t.Context(), ws, r.FileID)
		if test.found && err != nil || !test.found && !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s: %v, want it found: %v", name, err, test.found)
		}
		if stamped := query[bool](t, w.pool, `SELECT fetched_at IS NOT NULL FROM pending_uploads WHERE file_id = $1`, uuid.UUID(r.FileID)); stamped != test.found {
			t.Errorf("%s: stamped: %v", name, stamped)
		}
	}
}
