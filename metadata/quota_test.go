package metadata_test

import (
	"database/sql"
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// quota are the uploads of the world with one.
func (w *world) quota(q storage.Quota) *metadata.Uploads {
	return metadata.NewUploads(metadata.UploadsConfig{DB: w.pool, Announcer: w.activity, Quota: q})
}

// sized are new uploads of these sizes.
func sized(t *testing.T, sizes ...int64) []metadata.NewUpload {
	t.Helper()
	uploads := make([]metadata.NewUpload, len(sizes))
	for i, size := range sizes {
		uploads[i] = newUpload(t)
		uploads[i].Size = size
	}
	return uploads
}

func TestQuotaCountsWhatWaitsForTheWorkspace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uploads := w.quota(storage.Quota{Bytes: 100, Files: 4})
	insert := func(sizes ...int64) error {
		t.Helper()
		_, err := uploads.Insert(t.Context(), w.ws, sized(t, sizes...))
		return err
	}
	wantOver := func(err error, used, adding storage.Usage) {
		t.Helper()
		want := storage.QuotaError{Used: used, Adding: adding, Max: storage.Quota{Bytes: 100, Files: 4}}
		var over *storage.QuotaError
		if !errors.As(err, &over) || *over != want {
			t.Errorf("%v, want %v", err, &want)
		}
	}
	wantOver(insert(60, 41), storage.Usage{}, storage.Usage{Bytes: 101, Files: 2})
	wantOver(insert(1, 1, 1, 1, 1), storage.Usage{}, storage.Usage{Bytes: 5, Files: 5})
	if n := query[int](t, w.pool, `SELECT count(*) FROM pending_uploads`) + query[int](t, w.pool, `SELECT count(*) FROM activity_logs`); n != 0 {
		t.Errorf("%d rows and entries of what was refused", n)
	}
	if err := insert(60, 40); err != nil {
		t.Fatalf("exactly the quota: %v", err)
	}
	full := storage.Usage{Bytes: 100, Files: 2}
	wantOver(insert(1), full, storage.Usage{Bytes: 1, Files: 1})
	wantOver(uploads.CheckQuota(t.Context(), w.ws, storage.Usage{Bytes: 1, Files: 1}), full, storage.Usage{Bytes: 1, Files: 1})

	// Another workspace's are its own.
	other := w.workspace(t, "other", nil)
	if _, err := uploads.Insert(t.Context(), other, sized(t, 100)); err != nil {
		t.Errorf("another workspace: %v", err)
	}
	// Each of these makes room for exactly the large file.
	for name, leave := range map[string]string{
		"acked":    `acked_at = now()`,
		"expired":  `expires_at = now()`,
		"sweeping": `sweeping_at = now()`,
	} {
		wantOver(insert(60), full, storage.Usage{Bytes: 60, Files: 1})
		w.exec(t, `UPDATE pending_uploads SET `+leave+` WHERE workspace_id = $1 AND size_bytes = 60
			AND acked_at IS NULL AND expires_at > now() AND sweeping_at IS NULL`, uuid.UUID(w.ws))
		if err := uploads.CheckQuota(t.Context(), w.ws, storage.Usage{Bytes: 60, Files: 1}); err != nil {
			t.Errorf("%s, looking: %v", name, err)
		}
		wantOver(insert(61), storage.Usage{Bytes: 40, Files: 1}, storage.Usage{Bytes: 61, Files: 1})
		if err := insert(60); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWithoutQuotaNobodyLooks(t *testing.T) {
	t.Parallel()
	nowhere := metadata.NewUploads(metadata.UploadsConfig{})
	if err := nowhere.CheckQuota(t.Context(), storage.WorkspaceID{}, storage.Usage{Bytes: 1 << 60, Files: 1 << 60}); err != nil {
		t.Error(err)
	}
}

// gate is an announcer that holds what was inserted and counted back from its
// commit until the test lets it go.
type gate struct{ metadata.Announcer }

const gateLock = 4711

func (g gate) Announce(b *pgx.Batch, ws storage.WorkspaceID, records []storage.Record) (func(), error) {
	b.Queue(`SELECT pg_advisory_xact_lock_shared($1)`, gateLock)
	if g.Announcer == nil {
		return nil, nil
	}
	return g.Announcer.Announce(b, ws, records)
}

// Two that fit one at a time, both before their commit: the one that is counted
// second sees the first, whatever else the two lock.
func TestQuotaHoldsForInsertsAtTheSameTime(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T, w *world, q storage.Quota) *metadata.Uploads{
		"with a feed": func(_ *testing.T, w *world, q storage.Quota) *metadata.Uploads {
			return metadata.NewUploads(metadata.UploadsConfig{DB: w.pool, Announcer: gate{w.activity}, Quota: q})
		},
		"without a feed": func(_ *testing.T, w *world, q storage.Quota) *metadata.Uploads {
			return metadata.NewUploads(metadata.UploadsConfig{DB: w.pool, Announcer: gate{}, Quota: q})
		},
		"database/sql": func(t *testing.T, w *world, q storage.Quota) *metadata.Uploads {
			db := stdlib.OpenDBFromPool(w.pool)
			t.Cleanup(func() { _ = db.Close() })
			return metadata.NewUploads(metadata.UploadsConfig{DB: metadata.FromSQL(db), Announcer: gate{}, Quota: q})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			uploads := open(t, w, storage.Quota{Bytes: 100})
			closed := w.begin(t)
			if _, err := closed.Exec(t.Context(), `SELECT pg_advisory_xact_lock($1)`, gateLock); err != nil {
				t.Fatal(err)
			}
			const inserts = 3
			results := make(chan error, inserts)
			for range inserts {
				go func() {
					_, err := uploads.Insert(t.Context(), w.ws, sized(t, 60))
					results <- err
				}()
			}
			w.waitForLockWaiters(t, inserts)
			if err := closed.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			in := 0
			for range inserts {
				switch err := <-results; {
				case err == nil:
					in++
				case !errors.Is(err, storage.ErrQuota):
					t.Error(err)
				}
			}
			if n := query[int](t, w.pool, `SELECT count(*) FROM pending_uploads`); in != 1 || n != 1 {
				t.Errorf("%d got in, %d rows, want 1", in, n)
			}
		})
	}
}

// Whose transaction it is may commit after the refusal: it must hold no rows then,
// because their objects are discarded.
func TestQuotaWithinATransactionOfTheCallers(t *testing.T) {
	t.Parallel()
	for name, reference := range map[string]bool{"own table": false, "reference table": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			db := stdlib.OpenDBFromPool(w.pool)
			t.Cleanup(func() { _ = db.Close() })
			uploads := metadata.NewUploads(metadata.UploadsConfig{
				DB: metadata.FromSQL(db), ReferenceTable: reference, Quota: storage.Quota{Files: 3},
			})
			inline := func(n int) []metadata.NewUpload {
				files := sized(t, slices.Repeat([]int64{5}, n)...)
				for i := range files {
					files[i].ObjectKey, files[i].Content = "", []byte("hello")
				}
				return files
			}
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback() }()
			within := uploads.Within(metadata.FromSQLTx(tx))
			if _, err := within.Insert(t.Context(), w.ws, inline(2)); err != nil {
				t.Fatal(err)
			}
			if _, err := within.Insert(t.Context(), w.ws, inline(2)); !errors.Is(err, storage.ErrQuota) {
				t.Errorf("beside the transaction's own two: %v", err)
			}
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			if n := query[int](t, w.pool, `SELECT count(*) FROM pending_uploads`); n != 2 {
				t.Errorf("%d rows, want 2", n)
			}

			inPGX := w.begin(t)
			if _, err := uploads.Within(inPGX).Insert(t.Context(), w.ws, inline(2)); !errors.Is(err, storage.ErrQuota) {
				t.Errorf("in a batch: %v", err)
			}
			if err := inPGX.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := query[int](t, w.pool, `SELECT count(*) FROM pending_uploads`); n != 2 {
				t.Errorf("%d rows, want 2", n)
			}

			for _, c := range []struct {
				level   sql.IsolationLevel
				others  string
				counted bool
			}{
				{sql.LevelReadUncommitted, "read committed", true},
				{sql.LevelReadCommitted, "serializable", true},
				{sql.LevelRepeatableRead, "read committed", false},
				{sql.LevelSerializable, "read committed", false},
				{sql.LevelSerializable, "serializable", true},
			} {
				tx, err := db.BeginTx(t.Context(), &sql.TxOptions{Isolation: c.level})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := tx.ExecContext(t.Context(), `SET LOCAL default_transaction_isolation = '`+c.others+`'`); err != nil {
					t.Fatal(err)
				}
				if _, err := uploads.Within(metadata.FromSQLTx(tx)).Insert(t.Context(), w.ws, inline(1)); c.counted != (err == nil) {
					t.Errorf("%v beside %s, want it counted: %t: %v", c.level, c.others, c.counted, err)
				}
				if err := tx.Rollback(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// A commit that is repeated is that, however full the workspace is by it.
func TestQuotaDoesNotHideThatAnUploadIsInsertedAlready(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uploads := w.quota(storage.Quota{Bytes: 100})
	files := sized(t, 50, 50)
	if _, err := uploads.Insert(t.Context(), w.ws, files); err != nil {
		t.Fatal(err)
	}
	if _, err := uploads.Insert(t.Context(), w.ws, files); !metadata.AlreadyInserted(err) {
		t.Errorf("%v, want that they are there", err)
	}
}

func TestUsageGoesThroughTheIndexOfUnackedRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// 500 workspaces with 100 rows each, one of ten unacked; ours is the same.
	w.exec(t, `
		INSERT INTO pending_uploads (workspace_id, object_key, size_bytes, filename, acked_at)
		SELECT CASE WHEN ws = 0 THEN $1 ELSE id END, 'k', 1, 'f', CASE WHEN n % 10 <> 0 THEN now() END
		FROM (SELECT ws, gen_random_uuid() AS id FROM generate_series(0, 499) ws) w, generate_series(1, 100) n`, uuid.UUID(w.ws))
	w.exec(t, `VACUUM ANALYZE pending_uploads`)
	recorded := &recorder{DB: w.pool}
	uploads := metadata.NewUploads(metadata.UploadsConfig{DB: recorded, Quota: storage.Quota{Files: 10}})
	var over *storage.QuotaError
	if err := uploads.CheckQuota(t.Context(), w.ws, storage.Usage{Bytes: 1, Files: 1}); !errors.As(err, &over) || over.Used.Files != 10 {
		t.Fatalf("%v, want 10 files used", err)
	}
	recorded.args["files"] = "{}"
	recorded.explain(t, w, func(t *testing.T, p plan) {
		if indexes := p.scans(t); !slices.Equal(indexes, []string{"idx_pending_uploads_workspace_unacked"}) {
			t.Errorf("scans %v", indexes)
		}
		p.walk(func(n plan) {
			if n.Index != "" && n.Removed > 0 {
				t.Errorf("%s dropped %v rows", n.Index, n.Removed)
			}
		})
		if p.Hit+p.Read > 20 {
			t.Errorf("touched %d buffers", p.Hit+p.Read)
		}
	})
}
