package storagetest

import (
	"context"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/storage"
)

var ackTests = []subtest{
	{"an ack needs no fetch before it", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		r := put(t, h, ws, noise(5))
		if err := h.Storage.Ack(t.Context(), ws, r.FileID); err != nil {
			t.Fatal(err)
		}
		got, err := h.Storage.Stat(t.Context(), ws, r.FileID)
		if err != nil || got.AckedAt == nil || got.FetchedAt != nil {
			t.Errorf("after the ack: %+v, %v", got, err)
		}
	}},
	{"the first ack's time never moves, and acking again succeeds", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		r := put(t, h, ws, noise(5))
		var first time.Time
		for i := range 3 {
			if err := h.Storage.Ack(t.Context(), ws, r.FileID); err != nil {
				t.Fatalf("ack %d: %v", i, err)
			}
			got, err := h.Storage.Stat(t.Context(), ws, r.FileID)
			if err != nil || got.AckedAt == nil {
				t.Fatalf("after ack %d: %+v, %v", i, got, err)
			}
			if i == 0 {
				first = *got.AckedAt
			} else if !got.AckedAt.Equal(first) {
				t.Errorf("ack %d moved the time from %v to %v", i, first, *got.AckedAt)
			}
		}
	}},
	{"size and digest of a record never change", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		want := noise(500)
		r := put(t, h, ws, want)
		for i, step := range []func(context.Context, storage.WorkspaceID, storage.FileID) error{
			h.Storage.MarkFetched, h.Storage.Ack, h.Storage.Ack,
		} {
			if err := step(t.Context(), ws, r.FileID); err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
			got, err := h.Storage.Stat(t.Context(), ws, r.FileID)
			if err != nil || got.Content.Size != r.Content.Size || got.Content.SHA256 != sha256.Sum256(want) {
				t.Errorf("after step %d: %+v, %v", i, got.Content, err)
			}
		}
	}},
	{"an ack of an absent or expired file is not found, acked before or not", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		wantErr(t, "absent", h.Storage.Ack(t.Context(), ws, newFile(t)), storage.ErrNotFound)
		unacked, acked := put(t, h, ws, noise(5)), put(t, h, ws, noise(5))
		if err := h.Storage.Ack(t.Context(), ws, acked.FileID); err != nil {
			t.Fatal(err)
		}
		for name, f := range map[string]storage.FileID{"unacked": unacked.FileID, "acked": acked.FileID} {
			h.Expire(t, ws, f)
			wantErr(t, "expired, "+name, h.Storage.Ack(t.Context(), ws, f), storage.ErrNotFound)
			_, err := h.Storage.Stat(t.Context(), ws, f)
			wantErr(t, "Stat of expired, "+name, err, storage.ErrNotFound)
		}
	}},
}
