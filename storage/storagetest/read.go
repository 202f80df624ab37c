package storagetest

import (
	"bytes"
	"testing"

	"github.com/molecule-ai/pendinguploads/storage"
)

var readTests = []subtest{
	{"content opens with any range, again and again", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		for _, n := range []int{100, 3*storage.MiB + 17} {
			want := noise(n)
			r := put(t, h, ws, want)
			for _, span := range []storage.Range{
				{}, {Offset: 0, Length: 1}, {Offset: int64(n - 1)}, {Offset: 1, Length: int64(n - 2)},
				{Offset: int64(n / 2), Length: int64(n)}, {},
			} {
				cut, err := span.Resolve(int64(n))
				if err != nil {
					t.Fatal(err)
				}
				if got := read(t, r.Content, span); !bytes.Equal(got, want[cut.Offset:cut.Offset+cut.Length]) {
					t.Errorf("range %+v of %d bytes: %d bytes that differ", span, n, len(got))
				}
			}
			for _, span := range []storage.Range{{Offset: int64(n)}, {Offset: -1}, {Length: -1}} {
				_, err := r.Content.Open(t.Context(), span)
				wantErr(t, "range outside", err, storage.ErrRange)
			}
		}
	}},
	{"a file of workspace A is invisible to workspace B", func(t *testing.T, open Open) {
		h := open(t, Options{})
		a, b := newWorkspace(t), newWorkspace(t)
		want := noise(50)
		r := put(t, h, a, want)
		put(t, h, b, noise(10))
		_, err := h.Storage.Get(t.Context(), b, r.FileID)
		wantErr(t, "Get", err, storage.ErrNotFound)
		_, err = h.Storage.Stat(t.Context(), b, r.FileID)
		wantErr(t, "Stat", err, storage.ErrNotFound)
		wantErr(t, "MarkFetched", h.Storage.MarkFetched(t.Context(), b, r.FileID), storage.ErrNotFound)
		wantErr(t, "Ack", h.Storage.Ack(t.Context(), b, r.FileID), storage.ErrNotFound)
		got, err := h.Storage.Get(t.Context(), a, r.FileID)
		if err != nil || got.FetchedAt != nil || got.AckedAt != nil {
			t.Fatalf("the owner's row changed: %+v, %v", got, err)
		}
		wantContent(t, got, want)
	}},
	{"absent, expired and acked look alike", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		expired, acked := put(t, h, ws, noise(5)), put(t, h, ws, noise(5))
		h.Expire(t, ws, expired.FileID)
		if err := h.Storage.Ack(t.Context(), ws, acked.FileID); err != nil {
			t.Fatal(err)
		}
		for name, f := range map[string]storage.FileID{"absent": newFile(t), "expired": expired.FileID, "acked": acked.FileID} {
			_, err := h.Storage.Get(t.Context(), ws, f)
			wantErr(t, "Get of "+name, err, storage.ErrNotFound)
			wantErr(t, "MarkFetched of "+name, h.Storage.MarkFetched(t.Context(), ws, f), storage.ErrNotFound)
		}
	}},
	{"readable after ack keeps an acked file readable until it is swept", func(t *testing.T, open Open) {
		h := open(t, Options{ReadAfterAck: true})
		ws := newWorkspace(t)
		want := noise(500)
		r := put(t, h, ws, want)
		if err := h.Storage.Ack(t.Context(), ws, r.FileID); err != nil {
			t.Fatal(err)
		}
		got, err := h.Storage.Get(t.Context(), ws, r.FileID)
		if err != nil || got.AckedAt == nil {
			t.Fatalf("Get after Ack: %+v, %v", got, err)
		}
		wantContent(t, got, want)
		if err := h.Storage.MarkFetched(t.Context(), ws, r.FileID); err != nil {
			t.Errorf("MarkFetched after Ack: %v", err)
		}
		sweep(t, h, 0)
		_, err = h.Storage.Get(t.Context(), ws, r.FileID)
		wantErr(t, "Get after the sweep", err, storage.ErrNotFound)
	}},
	{"MarkFetched stamps every time", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		r := put(t, h, ws, noise(5))
		wantErr(t, "absent", h.Storage.MarkFetched(t.Context(), ws, newFile(t)), storage.ErrNotFound)
		var last storage.Record
		for i := range 3 {
			if err := h.Storage.MarkFetched(t.Context(), ws, r.FileID); err != nil {
				t.Fatal(err)
			}
			got, err := h.Storage.Get(t.Context(), ws, r.FileID)
			if err != nil || got.FetchedAt == nil || (i > 0 && !got.FetchedAt.After(*last.FetchedAt)) {
				t.Fatalf("stamp %d: %v after %v, %v", i, got.FetchedAt, last.FetchedAt, err)
			}
			last = got
		}
	}},
}
