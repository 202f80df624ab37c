package adopting

import (
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"
	"go.uber.org/goleak"

	"github.com/molecule-ai/pendinguploads"
	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/stagingtest"
)

func TestMain(m *testing.M) {
	devstack.Main(m, func() error {
		return goleak.Find(
			// Idle connections of the SDK's own client outlive it by design.
			goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
			goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		)
	})
}

// platform is the database of a platform, and the binaries that run on it.
type platform struct {
	url     string
	db      *sql.DB
	objects blob.Store

	old    pendinguploads.FullStorage // the statements of today
	inline *pendinguploads.Store      // NewPostgres
	s3     *pendinguploads.Store      // NewS3, limit 0
	s3cap  *pendinguploads.Store      // NewS3, limit = cap
}

var quiet = pendinguploads.WithLogger(slog.New(slog.DiscardHandler))

// newPlatform has the table as it was, and empty.
func newPlatform(t *testing.T, driver string) *platform {
	t.Helper()
	p := openDatabase(t, driver)
	pool, err := blob.NewPool(blob.PoolConfig{MaxWait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	p.objects = stagingtest.OpenBucket(t, devstack.MinIO(t), pool).Store
	p.s3 = pendinguploads.NewS3(p.db, p.objects, quiet)
	p.s3cap = pendinguploads.NewS3(p.db, p.objects, quiet, pendinguploads.WithInlineMaxBytes(pendinguploads.MaxFileBytes))
	return p
}

// openDatabase is a platform without an object store.
func openDatabase(tb testing.TB, driver string) *platform {
	tb.Helper()
	p := &platform{url: devstack.EmptyDatabase(tb)}
	var err error
	if p.db, err = sql.Open(driver, p.url); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.db.Close(); err != nil {
			tb.Error(err)
		}
	})
	p.db.SetMaxIdleConns(8)
	table, err := os.ReadFile("../../migrations/testdata/reference.sql")
	if err != nil {
		tb.Fatal(err)
	}
	p.exec(tb, string(table))
	p.old, p.inline = reference{p.db}, pendinguploads.NewPostgres(p.db, quiet)
	return p
}

func (p *platform) migrate(tb testing.TB) {
	tb.Helper()
	if err := pendinguploads.Migrate(tb.Context(), p.db); err != nil {
		tb.Fatal(err)
	}
}

func (p *platform) exec(tb testing.TB, query string, args ...any) {
	tb.Helper()
	if _, err := p.db.ExecContext(tb.Context(), query, args...); err != nil {
		tb.Fatal(err)
	}
}

func (p *platform) count(tb testing.TB, query string, args ...any) (n int) {
	tb.Helper()
	if err := p.db.QueryRowContext(tb.Context(), query, args...).Scan(&n); err != nil {
		tb.Fatal(err)
	}
	return n
}

// put stages a file.
func put(tb testing.TB, by pendinguploads.Storage, content string) uuid.UUID {
	tb.Helper()
	id, err := by.Put(tb.Context(), uuid.New(), []byte(content), "a.txt", "text/plain")
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

// putBatchTx stages files in one transaction, as platforms do.
func (p *platform) putBatchTx(tb testing.TB, by pendinguploads.TxBatchPutter, items ...pendinguploads.PutItem) []uuid.UUID {
	tb.Helper()
	tx, err := p.db.BeginTx(tb.Context(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	ids, err := by.PutBatchTx(tb.Context(), tx, uuid.New(), items)
	if err = errors.Join(err, tx.Commit()); err != nil {
		tb.Fatal(err)
	}
	return ids
}

// eventually polls a condition until it holds.
func eventually(tb testing.TB, holds func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); {
		if time.Now().After(deadline) {
			tb.Fatal("condition did not come true in 30 s")
		}
	}
}
