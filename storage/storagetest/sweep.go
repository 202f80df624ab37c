package storagetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/storage"
)

var sweepTests = []subtest{
	{"a sweep takes acked rows past the retention and expired rows, with their objects", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		fresh, acked, old, expired := put(t, h, ws, noise(5)), put(t, h, ws, noise(6)), put(t, h, ws, noise(7)), put(t, h, ws, noise(6*storage.MiB))
		for _, r := range []storage.Record{acked, old} {
			if err := h.Storage.Ack(t.Context(), ws, r.FileID); err != nil {
				t.Fatal(err)
			}
		}
		h.Age(t, ws, old.FileID, 61*time.Minute)
		h.Expire(t, ws, expired.FileID)
		wantSwept(t, sweep(t, h, time.Hour), storage.SweepResult{Acked: 1, Expired: 1})
		wantSwept(t, sweep(t, h, time.Hour), storage.SweepResult{})
		if n := h.Rows(t, ws); n != 2 {
			t.Errorf("%d rows are left, want 2", n)
		}
		wantObjects(t, h, fresh, acked)
		wantContent(t, fresh, noise(5))
	}},
	{"an acked row that also expired counts once, as acked, after its retention", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		r := put(t, h, ws, noise(5))
		if err := h.Storage.Ack(t.Context(), ws, r.FileID); err != nil {
			t.Fatal(err)
		}
		h.Expire(t, ws, r.FileID)
		wantSwept(t, sweep(t, h, time.Hour), storage.SweepResult{})
		h.Age(t, ws, r.FileID, 2*time.Hour)
		wantSwept(t, sweep(t, h, time.Hour), storage.SweepResult{Acked: 1})
		wantNothing(t, h, ws)
	}},
	{"retention 0 and below takes acked rows at once; parts of a second do not count", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		for _, retention := range []time.Duration{0, -time.Hour, 999 * time.Millisecond} {
			r := put(t, h, ws, noise(5))
			if err := h.Storage.Ack(t.Context(), ws, r.FileID); err != nil {
				t.Fatal(err)
			}
			wantSwept(t, sweep(t, h, retention), storage.SweepResult{Acked: 1})
		}
	}},
	{"a live unacked row is never swept", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		r := put(t, h, ws, noise(5))
		h.Age(t, ws, r.FileID, 23*time.Hour)
		wantSwept(t, sweep(t, h, 0), storage.SweepResult{})
		if _, err := h.Storage.Get(t.Context(), ws, r.FileID); err != nil {
			t.Errorf("Get: %v", err)
		}
	}},
	{"no object is deleted while its row can still be served", func(t *testing.T, open Open) {
		for _, readAfterAck := range []bool{false, true} {
			ws := newWorkspace(t)
			var h Harness
			var r storage.Record
			served := 0
			h = open(t, Options{ReadAfterAck: readAfterAck, Discarding: func(ctx context.Context) error {
				if _, err := h.Storage.Get(ctx, ws, r.FileID); !errors.Is(err, storage.ErrNotFound) {
					served++
				}
				if err := h.Storage.Ack(ctx, ws, r.FileID); !errors.Is(err, storage.ErrNotFound) {
					served++
				}
				return nil
			}})
			r = put(t, h, ws, noise(large))
			if err := h.Storage.Ack(t.Context(), ws, r.FileID); err != nil {
				t.Fatal(err)
			}
			wantSwept(t, sweep(t, h, 0), storage.SweepResult{Acked: 1})
			if served != 0 {
				t.Errorf("readable after ack %v: the row was served while its object went", readAfterAck)
			}
		}
	}},
	{"a crash between object and row is repaired by the next sweep", func(t *testing.T, open Open) {
		crash := errors.New("killed")
		crashed := false
		h := open(t, Options{Discarding: func(context.Context) error {
			if crashed {
				return nil
			}
			crashed = true
			return crash
		}})
		if h.Objects == nil {
			return // without objects there is one statement and nothing between
		}
		ws := newWorkspace(t)
		r := put(t, h, ws, noise(large))
		h.Expire(t, ws, r.FileID)
		_, err := h.Sweeper.Sweep(t.Context(), time.Hour, 100)
		wantErr(t, "the sweep that dies", err, crash)
		if n := h.Rows(t, ws); n != 1 {
			t.Fatalf("%d rows after the crash, want 1", n)
		}
		wantSwept(t, sweep(t, h, time.Hour), storage.SweepResult{Expired: 1})
		wantNothing(t, h, ws)
	}},
	{"sweepers side by side take each row once", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		const rows = 40
		var uploads []storage.Upload
		for range rows {
			uploads = append(uploads, file("a", noise(20)))
		}
		records, err := h.Storage.PutBatch(t.Context(), ws, storage.Batch{Uploads: storage.Files(uploads...)})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			h.Expire(t, ws, r.FileID)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		total := 0
		for range 4 {
			wg.Go(func() {
				for range rows {
					r, err := h.Sweeper.Sweep(t.Context(), 0, 7)
					if err != nil {
						t.Errorf("Sweep: %v", err)
						return
					}
					mu.Lock()
					total += r.Expired
					done := total >= rows
					mu.Unlock()
					if done {
						return
					}
				}
			})
		}
		wg.Wait()
		if total != rows {
			t.Errorf("%d rows counted, want %d", total, rows)
		}
		wantNothing(t, h, ws)
	}},
}

// wantObjects checks that the object store holds exactly these records' objects.
func wantObjects(t *testing.T, h Harness, records ...storage.Record) {
	t.Helper()
	if h.Objects == nil {
		return
	}
	want := map[string]bool{}
	for _, r := range records {
		if r.Content.Placement == storage.PlacementObject {
			want[r.Content.ObjectKey] = true
		}
	}
	for _, key := range h.Objects(t) {
		if !want[key] {
			t.Errorf("object %s should be gone", key)
		}
		delete(want, key)
	}
	for key := range want {
		t.Errorf("object %s is missing", key)
	}
}
