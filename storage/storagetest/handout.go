package storagetest

import (
	"testing"

	"github.com/molecule-ai/pendinguploads/storage"
)

var handoutTests = []subtest{
	{"GetFetched, where there is one, is Get and MarkFetched", func(t *testing.T, open Open) {
		h := open(t, Options{})
		store, ok := h.Storage.(storage.Handouter)
		if !ok {
			return
		}
		ws := newWorkspace(t)
		want := noise(large + 5)
		r := put(t, h, ws, want)
		got, err := store.GetFetched(t.Context(), ws, r.FileID)
		if err != nil || got.FetchedAt == nil {
			t.Fatalf("GetFetched: %+v, %v", got, err)
		}
		wantContent(t, got, want)
		if h.URLs {
			if _, err := got.Content.URL(t.Context(), urlOptions); err != nil {
				t.Errorf("URL: %v", err)
			}
		}
		stored, err := h.Storage.Get(t.Context(), ws, r.FileID)
		if err != nil || stored.FetchedAt == nil || !stored.FetchedAt.Equal(*got.FetchedAt) {
			t.Errorf("Get afterwards: fetched at %v, %v; want %v", stored.FetchedAt, err, got.FetchedAt)
		}
		_, err = store.GetFetched(t.Context(), newWorkspace(t), r.FileID)
		wantErr(t, "another workspace", err, storage.ErrNotFound)
		if err := h.Storage.Ack(t.Context(), ws, r.FileID); err != nil {
			t.Fatal(err)
		}
		_, err = store.GetFetched(t.Context(), ws, r.FileID)
		wantErr(t, "acked", err, storage.ErrNotFound)
	}},
}
