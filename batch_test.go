package pendinguploads_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/molecule-ai/pendinguploads"
	"github.com/molecule-ai/pendinguploads/internal/stagingtest"
)

func items(contents ...[]byte) []pendinguploads.PutItem {
	list := make([]pendinguploads.PutItem, len(contents))
	for i, c := range contents {
		list[i] = pendinguploads.PutItem{Content: c, Filename: fmt.Sprint("f", i), Mimetype: "text/plain"}
	}
	return list
}

// More files than one statement inserts, and than the service takes in a request.
func TestPutBatchIsWholeAndInOrder(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, s store) {
		contents := make([][]byte, 150)
		for i := range contents {
			contents[i] = noise(1 + i)
		}
		ws := uuid.New()
		ids, err := s.PutBatch(t.Context(), ws, items(contents...))
		if err != nil || len(ids) != len(contents) {
			t.Fatalf("%d ids, %v", len(ids), err)
		}
		for i, id := range ids {
			r, err := s.Get(t.Context(), id)
			if err != nil || !bytes.Equal(r.Content, contents[i]) || r.Filename != fmt.Sprint("f", i) || r.WorkspaceID != ws {
				t.Fatalf("item %d: %q, %d bytes, %v", i, r.Filename, len(r.Content), err)
			}
		}
	})
}

// A row that the table refuses takes all others with it, and their objects.
func TestPutBatchIsAllOrNothing(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, s store) {
		s.exec(t, `ALTER TABLE pending_uploads ADD CHECK (filename <> 'f70')`)
		contents := make([][]byte, 80)
		for i := range contents {
			contents[i] = []byte{byte(i)}
		}
		if ids, err := s.PutBatch(t.Context(), uuid.New(), items(contents...)); err == nil {
			t.Errorf("ids %v", ids)
		}
		if n := s.rows(t); n != 0 || len(s.keys(t)) != 0 {
			t.Errorf("%d rows, objects %v", n, s.keys(t))
		}
	})
}

func TestPutBatchTx(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, s store) {
		s.exec(t, `CREATE TABLE activity (file_id uuid)`)
		begin := func() *sql.Tx {
			tx, err := s.db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			return tx
		}
		// stage is what a platform does in one transaction.
		stage := func(tx *sql.Tx) []uuid.UUID {
			ids, err := s.PutBatchTx(t.Context(), tx, uuid.New(), items([]byte("one"), []byte("two")))
			if err != nil || len(ids) != 2 {
				t.Fatalf("%v, %v", ids, err)
			}
			for _, id := range ids {
				if _, err := tx.ExecContext(t.Context(), `INSERT INTO activity VALUES ($1)`, id); err != nil {
					t.Fatal(err)
				}
			}
			if n := s.rows(t); n != 0 {
				t.Errorf("%d rows are visible before the commit", n)
			}
			return ids
		}
		tx := begin()
		for _, id := range stage(tx) {
			wantErr(t, "Get before the commit", get(t, s, id), pendinguploads.ErrNotFound)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if n := s.rows(t); n != 0 {
			t.Errorf("%d rows after the rollback", n)
		}
		tx = begin()
		ids := stage(tx)
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{"one", "two"} {
			if r, err := s.Get(t.Context(), ids[i]); err != nil || string(r.Content) != want {
				t.Errorf("%q, want %q: %v", r.Content, want, err)
			}
		}
	})
}

// What a batch cannot do leaves the caller's transaction to the caller: open after
// a refused item, aborted after a failed statement, as PostgreSQL does.
func TestPutBatchTxLeavesTheTransactionToItsOwner(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, s store) {
		s.exec(t, `ALTER TABLE pending_uploads ADD CHECK (filename <> 'f1')`)
		tx, err := s.db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.PutBatchTx(t.Context(), tx, uuid.New(), items(nil))
		if err == nil {
			t.Error("an empty file is staged")
		}
		if _, err := tx.ExecContext(t.Context(), `SELECT 1`); err != nil {
			t.Errorf("after a refused item: %v", err)
		}
		if _, err = s.PutBatchTx(t.Context(), tx, uuid.New(), items([]byte("one"), []byte("two"))); err == nil {
			t.Error("a row against the table's check is inserted")
		}
		if _, err := tx.ExecContext(t.Context(), `SELECT 1`); err == nil {
			t.Error("after a failed statement the transaction goes on")
		}
		if err := tx.Rollback(); err != nil {
			t.Errorf("Rollback: %v", err)
		}
		if n := s.rows(t); n != 0 || len(s.keys(t)) != 0 {
			t.Errorf("%d rows, objects %v", n, s.keys(t))
		}
	})
}

// A statement in the caller's transaction waits for a lock no longer than he does.
func TestPutBatchTxEndsWithItsContext(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, s store) {
		lock, err := s.db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lock.ExecContext(t.Context(), `LOCK TABLE pending_uploads`); err != nil {
			t.Fatal(err)
		}
		tx, err := s.db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() {
			_, err := s.PutBatchTx(ctx, tx, uuid.New(), items([]byte("one")))
			failed <- err
		}()
		eventually(t, func() bool {
			var waiting bool
			const asks = `SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'pending_uploads'::regclass AND NOT granted)`
			if err := s.db.QueryRowContext(t.Context(), asks).Scan(&waiting); err != nil {
				t.Fatal(err)
			}
			return waiting
		})
		cancel()
		wantErr(t, "PutBatchTx", <-failed, context.Canceled)
		if err := tx.Commit(); err == nil {
			t.Error("the transaction goes on")
		}
		if err := lock.Rollback(); err != nil {
			t.Fatal(err)
		}
		if n := s.rows(t); n != 0 || s.db.Stats().InUse != 0 {
			t.Errorf("%d rows, %d connections in use", n, s.db.Stats().InUse)
		}
	})
}

// What a rollback leaves is removed after the grace period, and not before.
func TestRollbackLeavesOrphansForTheSweep(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	db, objects := openSQL(t, "postgres", migratedDatabase(t)), openObjects(t)
	s := store{pendinguploads.NewS3(db, objects, pendinguploads.WithClock(now)), db, objects}
	kept := s.put(t, uuid.New(), []byte("kept"))
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutBatchTx(t.Context(), tx, uuid.New(), items([]byte("one"), []byte("two"))); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		ahead         time.Duration
		removed, left int
	}{{pendinguploads.OrphanGrace - time.Minute, 0, 3}, {pendinguploads.OrphanGrace + time.Minute, 2, 1}} {
		ahead.Store(int64(step.ahead))
		n, err := s.SweepOrphans(t.Context())
		if err != nil || n != step.removed || len(s.keys(t)) != step.left {
			t.Errorf("%v on: removed %d, left %v, %v; want %d and %d", step.ahead, n, s.keys(t), err, step.removed, step.left)
		}
	}
	if err := get(t, s, kept); err != nil {
		t.Errorf("the file that was committed: %v", err)
	}
}

// More rows than one batch of the sweep, with the rules of contract 3.2.
func TestSweepCountsEveryRowOnce(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, s store) {
		s.exec(t, `
			INSERT INTO pending_uploads (workspace_id, content, size_bytes, filename, acked_at, expires_at)
			SELECT gen_random_uuid(), 'x', 1, 'a',
			       CASE WHEN n <= 700 THEN now() - interval '61 minutes' WHEN n <= 800 THEN now() - interval '59 minutes' END,
			       now() + CASE WHEN n % 2 = 0 OR n > 800 AND n <= 1400 THEN interval '-1 second' ELSE interval '1 hour' END
			FROM generate_series(1, 1500) n`)
		live := s.put(t, uuid.New(), []byte("live"))
		var wg sync.WaitGroup
		var mu sync.Mutex
		var sum pendinguploads.SweepResult
		for range 3 {
			wg.Go(func() {
				r, err := s.Sweep(t.Context(), time.Hour+999*time.Millisecond)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				sum.Acked += r.Acked
				sum.Expired += r.Expired
			})
		}
		wg.Wait()
		if last, err := s.Sweep(t.Context(), time.Hour); err != nil {
			t.Error(err)
		} else {
			sum.Acked += last.Acked
			sum.Expired += last.Expired
		}
		// 700 acked long ago; of the rest, 600 ran out, and half of the last 100.
		if want := (pendinguploads.SweepResult{Acked: 700, Expired: 650}); sum != want {
			t.Errorf("swept %+v, want %+v", sum, want)
		}
		if n := s.rows(t); n != 151 || get(t, s, live) != nil {
			t.Errorf("%d rows are left, want 151; the live file: %v", n, get(t, s, live))
		}
		if r, err := s.Sweep(t.Context(), -time.Hour); err != nil || r != (pendinguploads.SweepResult{Acked: 100}) {
			t.Errorf("without retention: %+v, %v", r, err)
		}
	})
}

// counting is a later platform's own store.
type counting struct {
	pendinguploads.Storage
	retention chan time.Duration
}

func (c counting) Sweep(_ context.Context, retention time.Duration) (pendinguploads.SweepResult, error) {
	c.retention <- retention
	return pendinguploads.SweepResult{Acked: 1}, nil
}

func TestStartSweeper(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, s store) {
		id := s.put(t, uuid.New(), []byte("x"))
		if err := s.Ack(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		s.exec(t, `UPDATE pending_uploads SET acked_at = now() - interval '61 minutes'`)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			pendinguploads.StartSweeper(ctx, s, 0)
		}()
		eventually(t, func() bool { return s.rows(t) == 0 })
		cancel()
		<-ended
	})
	t.Run("of another store", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		c := counting{retention: make(chan time.Duration, 10)}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			pendinguploads.StartSweeper(ctx, c, 0)
		}()
		if got := <-c.retention; got != pendinguploads.DefaultAckRetention {
			t.Errorf("retention %v, want %v", got, pendinguploads.DefaultAckRetention)
		}
		cancel()
		<-ended
	})
	t.Run("of a wrapped store", func(t *testing.T) {
		t.Parallel()
		later := func() time.Time { return time.Now().Add(pendinguploads.OrphanGrace + time.Minute) }
		db, objects := openSQL(t, "postgres", migratedDatabase(t)), openObjects(t)
		s := store{pendinguploads.NewS3(db, objects, pendinguploads.WithClock(later)), db, objects}
		stagingtest.PutObject(t, objects, "pending-uploads/"+uuid.NewString()+"/"+uuid.NewString())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			pendinguploads.StartSweeper(ctx, struct{ *pendinguploads.Store }{s.Store}, 0)
		}()
		eventually(t, func() bool { return len(s.keys(t)) == 0 })
		cancel()
		<-ended
	})
	t.Run("of a store that does not sweep", func(t *testing.T) {
		t.Parallel()
		pendinguploads.StartSweeper(t.Context(), struct{ pendinguploads.Storage }{}, 0) // returns
	})
	t.Run("after the end", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		c := counting{retention: make(chan time.Duration)}
		pendinguploads.StartSweeper(ctx, c, 0) // a sweep would block here
	})
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("not before the test's end")
		}
	}
}

// A sweeper that is started again goes on, and so do its metrics.
func TestSweeperMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	s := pendinguploads.NewPostgres(openSQL(t, "postgres", referenceDatabase(t)), pendinguploads.WithRegisterer(reg),
		pendinguploads.WithLogger(slog.New(slog.DiscardHandler)))
	acked := func() float64 {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "molecule_pending_uploads_swept_total" {
				for _, m := range f.GetMetric() {
					if m.GetLabel()[0].GetValue() == "acked" {
						return m.GetCounter().GetValue()
					}
				}
			}
		}
		return 0
	}
	for run := range 2 {
		id, err := s.Put(t.Context(), uuid.New(), []byte("x"), "a", "")
		if err = errors.Join(err, s.Ack(t.Context(), id)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			pendinguploads.StartSweeper(ctx, s, -1)
		}()
		eventually(t, func() bool { return acked() == float64(run+1) })
		cancel()
		<-ended
	}
}
