package staging_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/memblob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

var errRefused = errors.New("refused")

// stubborn is an object store that lists no objects, or keeps some of what it
// should remove.
type stubborn struct {
	blob.Store
	list  error // of every listing of objects
	keeps string
}

func (s stubborn) List(ctx context.Context, prefix string) iter.Seq2[blob.Object, error] {
	if s.list == nil {
		return s.Store.List(ctx, prefix)
	}
	return func(yield func(blob.Object, error) bool) { yield(blob.Object{}, s.list) }
}

func (s stubborn) AbortUnfinished(ctx context.Context, u blob.Unfinished) error {
	if u.Key == s.keeps {
		return errRefused
	}
	return s.Store.AbortUnfinished(ctx, u)
}

func (s stubborn) Delete(ctx context.Context, keys ...string) error {
	if slices.Contains(keys, s.keeps) {
		return errRefused
	}
	return s.Store.Delete(ctx, keys...)
}

// tomorrow is a store to whose clock everything is a day old.
func tomorrow(t *testing.T, rows staging.Rows, objects blob.Store) *staging.Store {
	t.Helper()
	s, err := staging.New(staging.Config{
		Rows: rows, Objects: objects, KeyPrefix: prefix, Logger: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Now().Add(24 * time.Hour) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newKey(t *testing.T) string {
	t.Helper()
	f, err := storage.NewFileID()
	if err != nil {
		t.Fatal(err)
	}
	return prefix + "/" + workspace(t).String() + "/" + f.String()
}

func TestUnfinishedUploadsAreAbortedWhateverObjectsDo(t *testing.T) {
	t.Parallel()
	pool, err := blob.NewPool(blob.PoolConfig{})
	if err != nil {
		t.Fatal(err)
	}
	b := s3Objects(devstack.MinIO)(t, pool)
	keys := []string{newKey(t), newKey(t), newKey(t)}
	slices.Sort(keys)
	for _, key := range keys {
		b.Unfinished(t, key)
	}
	throttled := errors.New("slow down")
	r, err := tomorrow(t, newRows(t), stubborn{Store: b.Store, list: throttled, keeps: keys[0]}).SweepOrphans(t.Context(), time.Hour)
	if !errors.Is(err, throttled) || !errors.Is(err, errRefused) || r != (storage.OrphanResult{Uploads: 2}) {
		t.Errorf("%+v, %v; want two aborted, and both failures", r, err)
	}
	if left := keysOf(t, b.Store); !slices.Equal(left, []string{keys[0] + " (unfinished)"}) {
		t.Errorf("left %v, want the one that cannot be aborted", left)
	}
}

// An orphan that cannot be deleted does not keep those listed after it.
func TestAnOrphanThatStaysDoesNotKeepTheOthers(t *testing.T) {
	t.Parallel()
	const orphans = 1100 // more than are deleted at a time
	objects := memblob.New()
	keys := make([]string, orphans)
	for i := range keys {
		keys[i] = newKey(t)
		putObject(t, objects, keys[i])
	}
	r, err := tomorrow(t, newRows(t), stubborn{Store: objects, keeps: slices.Min(keys)}).SweepOrphans(t.Context(), time.Hour)
	if !errors.Is(err, errRefused) || r.Objects != orphans-1000 {
		t.Errorf("%+v, %v; want the %d beyond the batch of the one that stays", r, err, orphans-1000)
	}
}

func TestASweepThatFailsCountsWhatItRemoved(t *testing.T) {
	t.Parallel()
	pool, err := blob.NewPool(blob.PoolConfig{})
	if err != nil {
		t.Fatal(err)
	}
	objects := &stubborn{Store: memblob.New()}
	s, err := staging.New(staging.Config{
		Rows: newRows(t), Objects: objects, Budget: pool, InlineMaxBytes: 10, KeyPrefix: prefix, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ws := workspace(t)
	for i, size := range []int{100, 5, 6} {
		r, err := s.Put(t.Context(), ws, storage.Upload{Filename: fmt.Sprint(i), Body: strings.NewReader(strings.Repeat("x", size))})
		if err != nil {
			t.Fatal(err)
		}
		if r.Content.ObjectKey != "" {
			objects.keeps = r.Content.ObjectKey
		}
		if err := s.Ack(t.Context(), ws, r.FileID); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := s.Sweep(t.Context(), 0, 10); !errors.Is(err, errRefused) || r != (storage.SweepResult{Acked: 2}) {
		t.Errorf("%+v, %v; want both inline rows and the refusal", r, err)
	}
	objects.keeps = ""
	if r, err := s.Sweep(t.Context(), 0, 10); err != nil || r != (storage.SweepResult{Acked: 1}) {
		t.Errorf("then %+v, %v", r, err)
	}
}
