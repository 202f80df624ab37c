package metadata_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

func keep(context.Context, []string) error { return nil }

// sweep marks and sweeps everything that is due.
func (w *world) sweep(t *testing.T, retention time.Duration) storage.SweepResult {
	t.Helper()
	if _, err := w.uploads.MarkDue(t.Context(), retention, 1000); err != nil {
		t.Fatal(err)
	}
	result, err := w.uploads.SweepDue(t.Context(), 1000, keep)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// aged stages one upload whose acked and expiry times lie at the given SQL
// distance from now; an empty acked is unacked.
func (w *world) aged(t *testing.T, acked, expires string) storage.Record {
	t.Helper()
	r := w.stage(t, nil)
	w.exec(t, `UPDATE pending_uploads SET expires_at = now() + $2::interval WHERE file_id = $1`, uuid.UUID(r.FileID), expires)
	if acked != "" {
		w.exec(t, `UPDATE pending_uploads SET acked_at = now() + $2::interval WHERE file_id = $1`, uuid.UUID(r.FileID), acked)
	}
	return r
}

func TestSweepRules(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		acked, expires string
		retention      time.Duration
		want           storage.SweepResult
	}{
		"unacked, live":                        {"", "1 hour", 0, storage.SweepResult{}},
		"unacked, expired":                     {"", "-1 second", time.Hour, storage.SweepResult{Expired: 1}},
		"acked, within retention":              {"-59 minutes", "1 hour", time.Hour, storage.SweepResult{}},
		"acked, past retention":                {"-61 minutes", "1 hour", time.Hour, storage.SweepResult{Acked: 1}},
		"acked and expired, within retention":  {"-59 minutes", "-1 minute", time.Hour, storage.SweepResult{}},
		"acked and expired, past retention":    {"-61 minutes", "-1 minute", time.Hour, storage.SweepResult{Acked: 1}},
		"retention 0 removes acked at once":    {"-1 millisecond", "1 hour", 0, storage.SweepResult{Acked: 1}},
		"negative retention is 0":              {"-1 millisecond", "1 hour", -time.Hour, storage.SweepResult{Acked: 1}},
		"acked in the future, negative":        {"1 hour", "2 hours", -3 * time.Hour, storage.SweepResult{}},
		"retention is cut to seconds: 0.999 s": {"-1 millisecond", "1 hour", 999 * time.Millisecond, storage.SweepResult{Acked: 1}},
		"retention is cut to seconds: 61.9 s":  {"-61.5 seconds", "1 hour", 61900 * time.Millisecond, storage.SweepResult{Acked: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			r := w.aged(t, test.acked, test.expires)
			if got := w.sweep(t, test.retention); got != test.want {
				t.Errorf("swept %+v, want %+v", got, test.want)
			}
			missing, err := w.uploads.Missing(t.Context(), []metadata.UploadID{{Workspace: w.ws, File: r.FileID}})
			if err != nil || len(missing) != test.want.Total() {
				t.Errorf("missing = %v, %v", missing, err)
			}
		})
	}
}

func TestSweepTakesObjectKeysFirstAndHonoursLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	want := map[string]bool{}
	for i := range 5 {
		r := w.aged(t, []string{"", "-2 hours"}[i%2], "-1 hour")
		want[r.Content.ObjectKey] = true
	}
	inline := w.stage(t, func(u *metadata.NewUpload) { u.ObjectKey, u.Content = "", []byte("hello") })
	w.exec(t, `UPDATE pending_uploads SET expires_at = now() - interval '1 hour' WHERE file_id = $1`, uuid.UUID(inline.FileID))

	for _, step := range []struct{ limit, want int }{{0, 0}, {1, 1}, {4, 4}, {10, 1}, {10, 0}} {
		if n, err := w.uploads.MarkDue(t.Context(), time.Hour, step.limit); err != nil || n != step.want {
			t.Fatalf("MarkDue(%d) = %d, %v; want %d", step.limit, n, err, step.want)
		}
	}
	var total storage.SweepResult
	for _, step := range []struct{ limit, want int }{{0, 0}, {2, 2}, {10, 4}, {10, 0}} {
		got, err := w.uploads.SweepDue(t.Context(), step.limit, func(ctx context.Context, keys []string) error {
			for _, key := range keys {
				if !want[key] {
					t.Errorf("key %q is discarded twice or unknown", key)
				}
				delete(want, key)
			}
			return nil
		})
		if err != nil || got.Total() != step.want {
			t.Fatalf("SweepDue(%d) = %+v, %v; want %d", step.limit, got, err, step.want)
		}
		total.Acked += got.Acked
		total.Expired += got.Expired
	}
	if total != (storage.SweepResult{Acked: 2, Expired: 4}) {
		t.Errorf("swept %+v, want 2 acked and 4 expired", total)
	}
	if len(want) != 0 {
		t.Errorf("never discarded: %v", want)
	}
}

func TestMarkedRowsAreInvisibleBeforeTheirObjectsGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	readable := metadata.NewUploads(metadata.UploadsConfig{DB: w.pool, ReadAfterAck: true})
	r := w.aged(t, "-2 hours", "1 hour")
	if _, err := readable.Get(t.Context(), w.ws, r.FileID); err != nil {
		t.Fatal(err)
	}
	if n, err := w.uploads.MarkDue(t.Context(), time.Hour, 10); err != nil || n != 1 {
		t.Fatalf("MarkDue = %d, %v", n, err)
	}
	called := false
	_, err := w.uploads.SweepDue(t.Context(), 10, func(ctx context.Context, keys []string) error {
		called = true
		if _, err := readable.Get(ctx, w.ws, r.FileID); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Get while the object is discarded: %v", err)
		}
		if err := readable.Ack(ctx, w.ws, r.FileID); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("Ack while the object is discarded: %v", err)
		}
		return nil
	})
	if err != nil || !called {
		t.Errorf("SweepDue: called %v, %v", called, err)
	}
}

func TestFailedDiscardKeepsRowsAndLetsOthersPass(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bad := w.aged(t, "", "-2 hours")
	if n, err := w.uploads.MarkDue(t.Context(), 0, 10); err != nil || n != 1 {
		t.Fatalf("MarkDue = %d, %v", n, err)
	}
	good := w.aged(t, "", "-1 hour")
	if n, err := w.uploads.MarkDue(t.Context(), 0, 10); err != nil || n != 1 {
		t.Fatalf("MarkDue = %d, %v", n, err)
	}
	refused := errors.New("refused")
	discard := func(_ context.Context, keys []string) error {
		if slices.Contains(keys, bad.Content.ObjectKey) {
			return refused
		}
		return nil
	}
	if got, err := w.uploads.SweepDue(t.Context(), 1, discard); !errors.Is(err, refused) || got.Total() != 0 {
		t.Errorf("first sweep = %+v, %v", got, err)
	}
	if got, err := w.uploads.SweepDue(t.Context(), 1, discard); err != nil || got.Expired != 1 {
		t.Errorf("second sweep = %+v, %v; want the other row", got, err)
	}
	missing, err := w.uploads.Missing(t.Context(), []metadata.UploadID{{w.ws, bad.FileID}, {w.ws, good.FileID}})
	if err != nil || len(missing) != 1 || missing[0].File != good.FileID {
		t.Errorf("missing = %v, %v", missing, err)
	}
	if got, err := w.uploads.SweepDue(t.Context(), 1, keep); err != nil || got.Expired != 1 {
		t.Errorf("third sweep = %+v, %v", got, err)
	}
}

// Rows whose content is inline have nothing to do with objects that stay; those of
// the objects go to the end of the queue.
func TestInlineRowsDoNotWaitForObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mark := func(want int) {
		t.Helper()
		w.exec(t, `UPDATE pending_uploads SET expires_at = now() - interval '1 hour'`)
		if n, err := w.uploads.MarkDue(t.Context(), time.Hour, 10); err != nil || n != want {
			t.Fatalf("MarkDue = %d, %v; want %d", n, err, want)
		}
	}
	inline := func(u *metadata.NewUpload) { u.ObjectKey, u.Content = "", []byte("hello") }
	bad, ack := w.stage(t, nil), w.stage(t, inline)
	if err := w.uploads.Ack(t.Context(), w.ws, ack.FileID); err != nil {
		t.Fatal(err)
	}
	w.exec(t, `UPDATE pending_uploads SET acked_at = now() - interval '2 hours' WHERE acked_at IS NOT NULL`)
	w.stage(t, inline)
	mark(3)
	later := w.stage(t, nil)
	mark(1)
	refused := errors.New("refused")
	var asked []string
	got, err := w.uploads.SweepDue(t.Context(), 3, func(_ context.Context, keys []string) error {
		asked = keys
		return refused
	})
	if !errors.Is(err, refused) || got != (storage.SweepResult{Acked: 1, Expired: 1}) || !slices.Equal(asked, []string{bad.Content.ObjectKey}) {
		t.Errorf("swept %+v, asked to discard %v, %v; want both inline rows and the refusal", got, asked, err)
	}
	if n := query[int](t, w.pool, `SELECT count(*) FROM pending_uploads`); n != 2 {
		t.Errorf("%d rows, want those of the objects", n)
	}
	got, err = w.uploads.SweepDue(t.Context(), 1, func(_ context.Context, keys []string) error {
		asked = keys
		return nil
	})
	if err != nil || got.Expired != 1 || !slices.Equal(asked, []string{later.Content.ObjectKey}) {
		t.Errorf("next sweep: %+v, %v, of %v; want the other object's row", got, err, asked)
	}
	if got := w.sweep(t, 0); got.Expired != 1 {
		t.Errorf("last sweep: %+v", got)
	}
}

// A discard that hangs until its time is over counts as failed: its rows make way.
func TestHangingDiscardLetsOthersPass(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.aged(t, "", "-2 hours")
	if n, err := w.uploads.MarkDue(t.Context(), 0, 10); err != nil || n != 1 {
		t.Fatalf("MarkDue = %d, %v", n, err)
	}
	good := w.aged(t, "", "-1 hour")
	if n, err := w.uploads.MarkDue(t.Context(), 0, 10); err != nil || n != 1 {
		t.Fatalf("MarkDue = %d, %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := w.uploads.SweepDue(ctx, 1, func(ctx context.Context, _ []string) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("first sweep: %v, want context.Canceled", err)
	}
	var taken []string
	_, err = w.uploads.SweepDue(t.Context(), 1, func(_ context.Context, keys []string) error {
		taken = keys
		return nil
	})
	if err != nil || !slices.Equal(taken, []string{good.Content.ObjectKey}) {
		t.Errorf("second sweep took %v, %v; want %s", taken, err, good.Content.ObjectKey)
	}
}

// The objects are gone, the rows are not: the process died before the commit.
func TestCrashBetweenDiscardAndDeleteIsRepaired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.aged(t, "", "-1 hour")
	if _, err := w.uploads.MarkDue(t.Context(), 0, 10); err != nil {
		t.Fatal(err)
	}
	tx := w.begin(t)
	if got, err := metadata.NewUploads(metadata.UploadsConfig{DB: tx}).SweepDue(t.Context(), 10, keep); err != nil || got.Expired != 1 {
		t.Fatalf("first sweep = %+v, %v", got, err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	calls := 0
	got, err := w.uploads.SweepDue(t.Context(), 10, func(_ context.Context, keys []string) error {
		calls += len(keys)
		return nil
	})
	if err != nil || got.Expired != 1 || calls != 1 {
		t.Errorf("sweep after the crash = %+v, %v, %d keys", got, err, calls)
	}
}

// The first sweeper is inside discard while the second runs: it passes over what
// the first holds.
func TestTwoSweepersShareWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 4 {
		w.aged(t, "", "-1 hour")
	}
	if n, err := w.uploads.MarkDue(t.Context(), 0, 10); err != nil || n != 4 {
		t.Fatalf("MarkDue = %d, %v", n, err)
	}
	var second storage.SweepResult
	first, err := w.uploads.SweepDue(t.Context(), 3, func(ctx context.Context, _ []string) error {
		var err error
		second, err = w.uploads.SweepDue(ctx, 10, keep)
		return err
	})
	if err != nil || first.Total() != 3 || second.Total() != 1 {
		t.Errorf("first %+v, second %+v, %v; want 3 and 1", first, second, err)
	}
}

func TestConcurrentSweepersCountEachRowOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const rows = 120
	for range rows {
		w.stage(t, nil)
	}
	w.exec(t, `UPDATE pending_uploads SET expires_at = now() - interval '1 hour'`)
	var mu sync.Mutex
	keys := map[string]int{}
	marked, swept := 0, 0
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				n, err := w.uploads.MarkDue(t.Context(), 0, 7)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := w.uploads.SweepDue(t.Context(), 7, func(_ context.Context, batch []string) error {
					mu.Lock()
					defer mu.Unlock()
					for _, key := range batch {
						keys[key]++
					}
					return nil
				})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				marked += n
				swept += got.Total()
				mu.Unlock()
				if n == 0 && got.Total() == 0 {
					return
				}
			}
		})
	}
	wg.Wait()
	left := w.sweep(t, 0).Total() // what each left to another that had it locked
	if marked > rows || swept+left != rows || query[int](t, w.pool, `SELECT count(*) FROM pending_uploads`) != 0 {
		t.Errorf("marked %d, swept %d, left %d, of %d", marked, swept, left, rows)
	}
	for key, n := range keys {
		if n != 1 {
			t.Errorf("%s was discarded %d times", key, n)
		}
	}
}

// An ack that is not committed yet keeps its row from the sweep of that moment.
func TestAckRacingTheSweep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.stage(t, nil)
	tx := w.begin(t)
	inside := metadata.NewUploads(metadata.UploadsConfig{DB: tx})
	if err := inside.Ack(t.Context(), w.ws, r.FileID); err != nil {
		t.Fatal(err)
	}
	// It expires meanwhile, as the sweep sees it.
	if _, err := tx.Exec(t.Context(), `UPDATE pending_uploads SET expires_at = now() - interval '1 hour'`); err != nil {
		t.Fatal(err)
	}
	if n, err := w.uploads.MarkDue(t.Context(), time.Hour, 10); err != nil || n != 0 {
		t.Errorf("MarkDue while the ack is open = %d, %v; want 0", n, err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.sweep(t, time.Hour); got != (storage.SweepResult{}) {
		t.Errorf("swept %+v: the row was acked within the retention", got)
	}

	// The other way round: the sweep has the row, the ack waits and finds it gone.
	tx = w.begin(t)
	marker := metadata.NewUploads(metadata.UploadsConfig{DB: tx})
	other := w.stage(t, nil)
	w.exec(t, `UPDATE pending_uploads SET acked_at = now() - interval '2 hours' WHERE file_id = $1`, uuid.UUID(other.FileID))
	if n, err := marker.MarkDue(t.Context(), time.Hour, 10); err != nil || n != 1 {
		t.Fatalf("MarkDue = %d, %v", n, err)
	}
	if got, err := marker.SweepDue(t.Context(), 10, keep); err != nil || got.Acked != 1 {
		t.Fatalf("SweepDue = %+v, %v", got, err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.uploads.Ack(t.Context(), w.ws, other.FileID); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("ack after the sweep: %v, want ErrNotFound", err)
	}
}

func TestSweepEndsWithItsContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.aged(t, "", "-1 hour")
	if _, err := w.uploads.MarkDue(t.Context(), 0, 10); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := w.uploads.SweepDue(ctx, 10, func(ctx context.Context, _ []string) error {
		cancel()
		return fmt.Errorf("discard: %w", ctx.Err())
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	// The rows are free again at once.
	if got, err := w.uploads.SweepDue(t.Context(), 10, keep); err != nil || got.Expired != 1 {
		t.Errorf("next sweep = %+v, %v", got, err)
	}
}
