package metadata_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

func TestMain(m *testing.M) { devstack.Main(m) }

// openPool opens a pool on a fresh, migrated database.
func openPool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool, err := metadata.Open(t.Context(), metadata.PoolConfig{URL: devstack.Database(t), MaxConns: 12})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// world is a database with one workspace.
type world struct {
	pool       *pgxpool.Pool
	ws         storage.WorkspaceID
	uploads    *metadata.Uploads
	activity   *metadata.Activity
	workspaces *metadata.Workspaces
	tokens     *metadata.Tokens
}

func newWorld(t *testing.T) *world {
	t.Helper()
	pool := openPool(t)
	w := &world{
		pool:       pool,
		activity:   metadata.NewActivity(metadata.ActivityConfig{DB: pool}),
		workspaces: metadata.NewWorkspaces(metadata.WorkspacesConfig{DB: pool}),
		tokens:     metadata.NewTokens(pool),
	}
	w.uploads = metadata.NewUploads(metadata.UploadsConfig{DB: pool, Announcer: w.activity})
	w.ws = w.workspace(t, "receiver", nil)
	return w
}

func (w *world) workspace(t *testing.T, name string, parent *storage.WorkspaceID) storage.WorkspaceID {
	t.Helper()
	made, _, err := w.workspaces.Create(t.Context(), metadata.NewWorkspace{Name: name, DeliveryMode: "poll", Status: "online", ParentID: parent}, "")
	if err != nil {
		t.Fatal(err)
	}
	return made.ID
}

func (w *world) append(t *testing.T, entries ...metadata.NewEntry) []metadata.Entry {
	t.Helper()
	written, err := w.activity.Append(t.Context(), w.ws, entries...)
	if err != nil {
		t.Fatal(err)
	}
	return written
}

func (w *world) page(t *testing.T, q metadata.Query) []metadata.Entry {
	t.Helper()
	entries, err := w.activity.Page(t.Context(), w.ws, q)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// stage inserts one upload with the given fields set.
func (w *world) stage(t *testing.T, change func(*metadata.NewUpload)) storage.Record {
	t.Helper()
	up := newUpload(t)
	if change != nil {
		change(&up)
	}
	records, err := w.uploads.Insert(t.Context(), w.ws, []metadata.NewUpload{up})
	if err != nil {
		t.Fatal(err)
	}
	return records[0]
}

func newUpload(t *testing.T) metadata.NewUpload {
	t.Helper()
	id, err := storage.NewFileID()
	if err != nil {
		t.Fatal(err)
	}
	return metadata.NewUpload{
		FileID: id, Filename: "a.txt", MIMEType: "text/plain", Size: 5,
		SHA256: storage.Digest{1, 2, 3}, ObjectKey: "x/" + id.String(),
	}
}

// exec runs a statement that sets a scene.
func (w *world) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := w.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func query[T any](t *testing.T, db metadata.DB, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := db.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// begin opens a transaction that ends with the test.
func (w *world) begin(t *testing.T) pgx.Tx {
	t.Helper()
	tx, err := w.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
	return tx
}

// inTx is the feed as seen by a transaction that the test controls.
func inTx(tx pgx.Tx) *metadata.Activity {
	return metadata.NewActivity(metadata.ActivityConfig{DB: tx})
}

// waitForLockWaiters returns once n backends of the database wait for a lock.
func (w *world) waitForLockWaiters(t *testing.T, n int) {
	t.Helper()
	eventually(t, func() bool {
		return query[int](t, w.pool, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`) >= n
	})
}

// eventually polls a condition until it holds.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatal("condition did not come true in 20 s")
		}
	}
}

func ptr[T any](v T) *T { return &v }

func message(text string) metadata.NewEntry {
	return metadata.NewEntry{ActivityType: metadata.ActivityReceive, Method: ptr("message/send"), Summary: ptr(text)}
}

func seqs(entries []metadata.Entry) []int64 {
	list := make([]int64, len(entries))
	for i, e := range entries {
		list[i] = e.Seq
	}
	return list
}

func zeroCursor() *uuid.UUID { return &uuid.UUID{} }
