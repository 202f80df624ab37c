package storagetest

import (
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/storage"
)

var orphanTests = []subtest{
	{"an object without a row is removed after the grace period, nothing else is", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		kept := put(t, h, ws, noise(6*storage.MiB))
		if h.Objects == nil {
			if r, err := h.Sweeper.SweepOrphans(t.Context(), time.Hour); err != nil || r.Total() != 0 {
				t.Errorf("without an object store: %+v, %v", r, err)
			}
			return
		}
		orphan := h.Key(ws, newFile(t))
		strangers := []string{"somebody/else's", h.Key(ws, newFile(t)) + ".bak", h.Key(ws, newFile(t)) + "/x", "x" + h.Key(ws, newFile(t))}
		for _, key := range append(strangers, orphan) {
			h.PutObject(t, key)
		}
		if r, err := h.Sweeper.SweepOrphans(t.Context(), time.Hour); err != nil || r.Total() != 0 {
			t.Fatalf("a young orphan: %+v, %v", r, err)
		}
		h.AgeObjects(2 * time.Hour)
		r, err := h.Sweeper.SweepOrphans(t.Context(), time.Hour)
		if err != nil || r != (storage.OrphanResult{Objects: 1}) {
			t.Fatalf("an old orphan: %+v, %v", r, err)
		}
		want := map[string]bool{kept.Content.ObjectKey: true}
		for _, s := range strangers {
			want[s] = true
		}
		for _, key := range h.Objects(t) {
			if !want[key] {
				t.Errorf("object %s should be gone", key)
			}
			delete(want, key)
		}
		if kept.Content.Placement == storage.PlacementInline {
			delete(want, "")
		}
		for key := range want {
			t.Errorf("object %s was removed", key)
		}
		wantContent(t, kept, noise(6*storage.MiB))
	}},
	{"an unfinished upload is aborted after the grace period, nothing else is", func(t *testing.T, open Open) {
		h := open(t, Options{})
		if h.PutUnfinished == nil {
			return
		}
		ws := newWorkspace(t)
		kept := put(t, h, ws, noise(6*storage.MiB))
		h.PutUnfinished(t, h.Key(ws, newFile(t)))
		strangers := []string{"somebody/else's", h.Key(ws, newFile(t)) + ".bak"}
		for _, key := range strangers {
			h.PutUnfinished(t, key)
		}
		all := len(h.Objects(t))
		if r, err := h.Sweeper.SweepOrphans(t.Context(), time.Hour); err != nil || r.Total() != 0 || len(h.Objects(t)) != all {
			t.Fatalf("a young upload: %+v, %v, %v", r, err, h.Objects(t))
		}
		h.AgeObjects(2 * time.Hour)
		r, err := h.Sweeper.SweepOrphans(t.Context(), time.Hour)
		if err != nil || r != (storage.OrphanResult{Uploads: 1}) || len(h.Objects(t)) != all-1 {
			t.Errorf("an old upload: %+v, %v, %v", r, err, h.Objects(t))
		}
		wantContent(t, kept, noise(6*storage.MiB))
	}},
	{"a grace period that an upload could outlast is refused", func(t *testing.T, open Open) {
		h := open(t, Options{})
		if h.Objects == nil {
			return
		}
		h.PutObject(t, h.Key(newWorkspace(t), newFile(t)))
		if r, err := h.Sweeper.SweepOrphans(t.Context(), time.Second); err == nil {
			t.Errorf("grace of a second: %+v", r)
		}
		if n := len(h.Objects(t)); n != 1 {
			t.Errorf("%d objects, want 1", n)
		}
	}},
}
