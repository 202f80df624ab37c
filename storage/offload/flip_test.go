package offload_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/offload"
)

// deaf loses the answers to the first flips.
type deaf struct {
	metadata.DB
	flips atomic.Int32 // whose answers are lost
}

var errNoAnswer = errors.New("connection reset")

func (d *deaf) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if !strings.Contains(sql, "SET object_key") || d.flips.Add(-1) < 0 {
		return d.DB.Query(ctx, sql, args...)
	}
	rows, err := d.DB.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	rows.Close() // runs to its end
	return nil, errors.Join(errNoAnswer, rows.Err())
}

// A flip whose answer does not arrive may have been made: that of a batch, once and
// when it is tried again, and that of a larger file.
func TestAFlipWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ size, lost int }{
		"of a batch": {5000, 1}, "of a batch, twice": {5000, 2}, "of a larger file": {storage.MiB, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, devstack.MinIO)
			for i := range 5 {
				w.put(t, noise(c.size+i))
			}
			cfg := w.config(offload.ToObjects)
			db := &deaf{DB: w.db}
			db.flips.Store(int32(c.lost))
			cfg.Uploads = metadata.NewUploads(metadata.UploadsConfig{DB: db})
			if r := w.run(t, cfg); r.Rows != 5 || r.Left+r.Failed+r.Corrupt != 0 {
				t.Errorf("%+v", r)
			}
			if n := w.intact(t); n != 5 || w.objects.deletes.Load() != 0 || w.objects.puts.Load() != 5 {
				t.Errorf("%d files in objects, %d deletes, %d puts", n, w.objects.deletes.Load(), w.objects.puts.Load())
			}
			if left := db.flips.Load(); left >= 0 {
				t.Errorf("%d answers were not lost", left)
			}
		})
	}
}

// Rows that the database does not let flip do not keep those that were copied with
// them, in whatever place of the batch; a database that lets none flip ends the run.
func TestRowsThatCannotBeFlipped(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ size, bad, batch, least, most int }{
		"one":              {5000, 1, 16, 1, 1},
		"as many as work":  {5000, 4, 16, 4, 4},
		"all":              {5000, 20, 16, 4, 20}, // the second batch has 4
		"all, in ones":     {5000, 20, 1, 4, 7},
		"all, and are big": {storage.MiB / 2, 20, 16, 4, 7},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, devstack.MinIO)
			w.exec(t, `CREATE TABLE refused (id uuid)`)
			for i := range 20 {
				id := w.put(t, noise(c.size))
				if i%2 == 0 && i/2 < c.bad || c.bad == 20 {
					w.exec(t, `INSERT INTO refused VALUES ($1)`, uuid.UUID(id))
				}
			}
			w.exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
				'BEGIN IF EXISTS (SELECT FROM refused WHERE id = NEW.file_id) THEN RAISE EXCEPTION ''not this one''; END IF; RETURN NEW; END'`)
			w.exec(t, `CREATE TRIGGER refuse BEFORE UPDATE ON pending_uploads FOR EACH ROW EXECUTE FUNCTION refuse()`)
			cfg := w.config(offload.ToObjects)
			cfg.Patience, cfg.Batch = time.Millisecond, c.batch
			r, err := w.try(t.Context(), t, cfg)
			if err == nil || !strings.Contains(err.Error(), "not this one") {
				t.Errorf("%v", err)
			}
			if c.bad < 20 && r != (offload.Result{Rows: int64(20 - c.bad), Bytes: int64((20 - c.bad) * c.size), Failed: int64(c.bad)}) {
				t.Errorf("%+v", r)
			}
			// Each worker may be about to fail when the run ends.
			if c.bad == 20 && (r.Rows != 0 || r.Failed < int64(c.least) || r.Failed > int64(c.most)) {
				t.Errorf("%+v, want %d to %d failed", r, c.least, c.most)
			}
			w.exec(t, `DROP TRIGGER refuse ON pending_uploads`)
			if r := w.run(t, w.config(offload.ToObjects)); r.Rows != int64(c.bad) {
				t.Errorf("next: %+v", r)
			}
			if n := w.intact(t); n != 20 {
				t.Errorf("%d files in objects", n)
			}
		})
	}
}

// A caller's transaction holds one row of a batch, and goes on to others of it: it
// waits for nobody, and the others do not wait for it.
func TestACallersTransactionBesideABatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devstack.MinIO)
	var ids []storage.FileID
	for range 16 {
		ids = append(ids, w.put(t, noise(5000)))
	}
	tx, err := w.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	caller := w.uploads.Within(tx)
	if err := caller.Ack(t.Context(), w.ws, ids[15]); err != nil {
		t.Fatal(err)
	}
	done := make(chan offload.Result, 1)
	go func() { done <- w.run(t, w.config(offload.ToObjects)) }()
	w.eventually(t, 15)
	for _, id := range ids[:15] {
		if err := w.uploads.MarkFetched(t.Context(), w.ws, id); err != nil {
			t.Error(err)
		}
		if err := caller.Ack(t.Context(), w.ws, id); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := <-done; r.Rows != 15 || r.Left != 1 || r.Failed != 0 {
		t.Errorf("%+v", r)
	}
}

// Rows that are locked for longer than patience lasts are left to the next run. They
// are no reason to end this one, though they come first and are as many as it takes.
func TestRowsThatStayLocked(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"small": 5000, "large": storage.MiB} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, devstack.MinIO)
			tx, err := w.db.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i := range 6 {
				id := w.put(t, noise(size))
				if i > 2 {
					continue
				}
				if err := w.uploads.Within(tx).MarkFetched(t.Context(), w.ws, id); err != nil {
					t.Fatal(err)
				}
			}
			cfg := w.config(offload.ToObjects)
			cfg.Patience, cfg.Workers = time.Millisecond, 1
			r, err := w.try(t.Context(), t, cfg)
			if r.Rows != 3 || r.Failed != 3 || err == nil || !strings.Contains(err.Error(), "3 uploads failed") || !strings.Contains(err.Error(), "locked by another transaction") {
				t.Errorf("%+v, %v", r, err)
			}
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if r := w.run(t, w.config(offload.ToObjects)); r.Rows != 3 || w.intact(t) != 6 {
				t.Errorf("next: %+v", r)
			}
		})
	}
}

// refusing answers each flip with an error.
type refusing struct {
	metadata.DB
	err   error
	flips atomic.Int32
}

func (r *refusing) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if !strings.Contains(sql, "SET object_key") {
		return r.DB.Query(ctx, sql, args...)
	}
	r.flips.Add(1)
	return nil, r.err
}

// What no row is to blame for is not tried row by row: with a database that takes
// long to fail, that would take as many times as long.
func TestADatabaseThatIsAwayIsNotAskedRowByRow(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]error{"broken": errNoAnswer, "read-only": &pgconn.PgError{Code: "25006"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, devstack.MinIO)
			for range 16 {
				w.put(t, noise(5000))
			}
			db := &refusing{DB: w.db, err: away}
			cfg := w.config(offload.ToObjects)
			cfg.Uploads, cfg.Patience = metadata.NewUploads(metadata.UploadsConfig{DB: db}), time.Millisecond
			if r, err := w.try(t.Context(), t, cfg); !errors.Is(err, away) || r != (offload.Result{Failed: 16}) || db.flips.Load() != 2 {
				t.Errorf("%+v, %v after %d statements, want two", r, err, db.flips.Load())
			}
		})
	}
}

// What is copied is flipped when the run is stopped, and when another row ends it.
func TestCopiesAreFlippedWhenTheRunEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devstack.MinIO)
	for range 16 {
		w.put(t, noise(5000))
	}
	cfg := w.config(offload.ToObjects)
	cfg.Workers = 1
	ctx, cancel := context.WithCancel(t.Context())
	w.objects.stored = func(context.Context, string) error {
		if w.objects.puts.Load() == 8 {
			cancel()
		}
		return nil
	}
	// The eighth is not verified any more.
	if r, err := w.try(ctx, t, cfg); !errors.Is(err, context.Canceled) || r.Rows != 7 || w.inObjects(t) != 7 {
		t.Errorf("stopped: %+v, %v, %d in objects", r, err, w.inObjects(t))
	}

	full := errors.New("full")
	w.objects.puts.Store(0)
	w.objects.stored = func(context.Context, string) error {
		if w.objects.puts.Load() > 3 {
			return full
		}
		return nil
	}
	cfg.Patience = time.Millisecond
	if r, err := w.try(t.Context(), t, cfg); !errors.Is(err, full) || r.Rows != 3 || w.inObjects(t) != 10 {
		t.Errorf("ended: %+v, %v, %d in objects", r, err, w.inObjects(t))
	}
	w.objects.stored = nil
	if r := w.run(t, w.config(offload.ToObjects)); r.Rows != 6 || w.intact(t) != 16 {
		t.Errorf("next: %+v", r)
	}
}

// Where rows come slowly, copies do not wait for the end of their batch: the third
// is not done before the first two are flipped.
func TestCopiesDoNotWaitForASlowBatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devstack.MinIO)
	for range 3 {
		w.put(t, noise(5000))
	}
	w.objects.stored = func(context.Context, string) error {
		switch w.objects.puts.Load() {
		case 2:
			<-time.After(1100 * time.Millisecond)
		case 3:
			w.eventually(t, 2)
		}
		return nil
	}
	cfg := w.config(offload.ToObjects)
	cfg.Workers = 1
	if r := w.run(t, cfg); r.Rows != 3 || w.intact(t) != 3 {
		t.Errorf("%+v", r)
	}
}
