package pendinguploads_test

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"

	"github.com/molecule-ai/pendinguploads"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/stagingtest"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/storagetest"
)

func TestMain(m *testing.M) { devstack.Main(m) }

// The suite of the service runs on the platform's interface too, with either
// driver, on the table as it was and as Migrate leaves it.

func TestPostgresOnReferenceTable(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, stagingtest.Placement{Database: referenceDatabase}.Open(platform("postgres")))
}

func TestPostgresOnMigratedTable(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, stagingtest.Placement{Database: migratedDatabase}.Open(platform("pgx")))
}

func TestS3(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, stagingtest.Placement{Database: migratedDatabase, Server: devstack.MinIO}.Open(platform("postgres")))
}

func TestS3OnVersityGW(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, stagingtest.Placement{Server: devstack.VersityGW}.Open(platform("pgx")))
}

func TestSmallFilesInlineTheRestInS3(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, stagingtest.Placement{Database: migratedDatabase, Server: devstack.MinIO, InlineMax: 64 << 10}.Open(platform("postgres")))
}

//go:embed migrations/testdata/reference.sql
var referenceTable string

// referenceDatabase has the table as the reference software made it.
func referenceDatabase(tb testing.TB) string {
	tb.Helper()
	url := devstack.EmptyDatabase(tb)
	conn, err := pgx.Connect(tb.Context(), url)
	if err != nil {
		tb.Fatal(err)
	}
	_, err = conn.Exec(tb.Context(), referenceTable)
	if err = errors.Join(err, conn.Close(tb.Context())); err != nil {
		tb.Fatal(err)
	}
	return url
}

// migratedDatabase is referenceDatabase after Migrate.
func migratedDatabase(tb testing.TB) string {
	tb.Helper()
	url := referenceDatabase(tb)
	if err := pendinguploads.Migrate(tb.Context(), openSQL(tb, "postgres", url)); err != nil {
		tb.Fatal(err)
	}
	return url
}

// openSQL opens a pool with one of the two drivers.
func openSQL(tb testing.TB, driver, url string) *sql.DB {
	tb.Helper()
	db, err := sql.Open(driver, url)
	if err != nil {
		tb.Fatal(err)
	}
	db.SetMaxOpenConns(6)
	db.SetMaxIdleConns(6)
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return db
}

// platform builds what a platform would, on one of the drivers.
func platform(driver string) func(t *testing.T, p stagingtest.Parts) (storage.Storage, storage.Sweeper) {
	return func(t *testing.T, p stagingtest.Parts) (storage.Storage, storage.Sweeper) {
		t.Helper()
		db := openSQL(t, driver, p.URL)
		opts := []pendinguploads.Option{
			pendinguploads.WithTestHooks(p.Hook, p.Budget), pendinguploads.WithKeyPrefix(stagingtest.Prefix),
			pendinguploads.WithInlineMaxBytes(p.InlineMax), pendinguploads.WithClock(p.Now), pendinguploads.WithLogger(p.Logger),
		}
		if p.ReadAfterAck {
			opts = append(opts, pendinguploads.WithReadAfterAck())
		}
		if p.Limits.MaxFileBytes != 0 {
			opts = append(opts, pendinguploads.WithMaxFileBytes(p.Limits.MaxFileBytes))
		}
		var s *pendinguploads.Store
		if p.Objects == nil {
			s = pendinguploads.NewPostgres(db, opts...)
		} else {
			s = pendinguploads.NewS3(db, p.Objects, opts...)
		}
		return handler{s.Staging(), s}, s.Staging()
	}
}

// handler uses a Store as handlers do: it knows whose the file is before it does
// anything with it. What the platform's interface has no words for, such as
// sequences of bodies, is asked of what is below.
type handler struct {
	storage.Storage
	s *pendinguploads.Store
}

func (h handler) mine(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) error {
	r, err := h.Stat(ctx, ws, f)
	if err == nil && r.WorkspaceID != ws {
		return storage.ErrNotFound
	}
	return err
}

func (h handler) Put(ctx context.Context, ws storage.WorkspaceID, u storage.Upload) (storage.Record, error) {
	id, err := h.s.PutReader(ctx, uuid.UUID(ws), u.Body, u.Filename, u.MIMEType)
	if err != nil {
		return storage.Record{}, err
	}
	return h.Storage.Get(ctx, ws, storage.FileID(id))
}

func (h handler) Get(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (storage.Record, error) {
	r, err := h.s.Get(ctx, uuid.UUID(f))
	if err == nil && r.WorkspaceID != uuid.UUID(ws) {
		return storage.Record{}, storage.ErrNotFound
	}
	if err != nil {
		return storage.Record{}, err
	}
	return h.Storage.Get(ctx, ws, f)
}

func (h handler) Stat(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (storage.Record, error) {
	r, err := h.Storage.Stat(ctx, ws, f)
	if err == nil && r.WorkspaceID != ws {
		return storage.Record{}, storage.ErrNotFound
	}
	return r, err
}

func (h handler) MarkFetched(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) error {
	if err := h.mine(ctx, ws, f); err != nil {
		return err
	}
	return h.s.MarkFetched(ctx, uuid.UUID(f))
}

func (h handler) Ack(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) error {
	if err := h.mine(ctx, ws, f); err != nil {
		return err
	}
	return h.s.Ack(ctx, uuid.UUID(f))
}
