// Package stagingtest opens harnesses of storage/storagetest on real PostgreSQL
// and real S3 servers, for every implementation that is made of rows and objects.
// It is for tests.
package stagingtest

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/staging"
	"github.com/molecule-ai/pendinguploads/storage/storagetest"
)

// Prefix is put before object keys.
const Prefix = "test/uploads"

// Placement says where content goes, and what it is tried with.
type Placement struct {
	Server    func(testing.TB) devstack.S3 // nil: inline
	InlineMax int64                        // bytes; largest file that is inline beside a Server

	// Database makes a fresh database. Default devstack.Database.
	Database func(testing.TB) string
}

// Parts is what an implementation under test is put together from.
type Parts struct {
	storagetest.Options
	URL       string         // of the database
	DB        *pgxpool.Pool  // a pool on it
	Objects   blob.Store     // nil: inline
	Budget    staging.Budget // shared with Objects
	InlineMax int64
	Now       func() time.Time
	Logger    *slog.Logger
}

// Hook puts the suite's hooks around the rows that an implementation uses.
func (p Parts) Hook(rows staging.Rows) staging.Rows { return hooked{rows, p.Options} }

// Staging is the product's own implementation.
func Staging(t *testing.T, p Parts) (storage.Storage, storage.Sweeper) {
	t.Helper()
	store, err := staging.New(staging.Config{
		Rows:    p.Hook(metadata.NewUploads(metadata.UploadsConfig{DB: p.DB, ReadAfterAck: p.ReadAfterAck})),
		Objects: p.Objects, Budget: p.Budget, InlineMaxBytes: p.InlineMax, KeyPrefix: Prefix, Limits: p.Limits,
		Now: p.Now, Logger: p.Logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	return store, store
}

// Open makes a storagetest.Open of what build puts together.
func (p Placement) Open(build func(t *testing.T, parts Parts) (storage.Storage, storage.Sweeper)) storagetest.Open {
	return func(t *testing.T, o storagetest.Options) storagetest.Harness {
		t.Helper()
		pool := p.budget(t, o)
		url := p.database(t)
		db, err := metadata.Open(t.Context(), metadata.PoolConfig{URL: url, MaxConns: 6})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(db.Close)
		var skew atomic.Int64
		parts := Parts{
			Options: o, URL: url, DB: db, Budget: pool, InlineMax: p.InlineMax,
			Now:    func() time.Time { return time.Now().Add(time.Duration(skew.Load())) },
			Logger: slog.New(slog.DiscardHandler),
		}
		var h storagetest.Harness
		if p.Server != nil {
			b := OpenBucket(t, p.Server(t), pool)
			parts.Objects = b.Store
			h.Objects = func(t *testing.T) []string { t.Helper(); return Keys(t, b) }
			h.PutObject = func(t *testing.T, key string) { t.Helper(); PutObject(t, b, key) }
			h.PutUnfinished = b.Unfinished
			_, h.URLs = b.Store.(blob.Presigner)
			h.AgeObjects = func(d time.Duration) { skew.Add(int64(d)) }
		}
		h.Storage, h.Sweeper = build(t, parts)
		rowViews(&h, db)
		return h
	}
}

func (p Placement) database(t *testing.T) string {
	t.Helper()
	if p.Database != nil {
		return p.Database(t)
	}
	return devstack.Database(t)
}

// budget is memory for uploads. For OneUpload it is one part buffer, and what the
// placement reserves for a file.
func (p Placement) budget(t *testing.T, o storagetest.Options) *blob.Pool {
	t.Helper()
	cfg := blob.PoolConfig{MaxWait: time.Minute}
	if o.OneUpload {
		reserved := int64(2 * storage.MiB)
		switch {
		case p.Server == nil:
			reserved = staging.InlineCopies * o.Limits.MaxFileBytes
		case p.InlineMax > 0:
			reserved = staging.InlineCopies * storage.MaxFilesPerBatch * p.InlineMax
		}
		cfg = blob.PoolConfig{BudgetBytes: blob.DefaultPartBytes + reserved, MaxWait: 300 * time.Millisecond}
	}
	pool, err := blob.NewPool(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

// Bucket is an object store, and the way to leave an upload in it unfinished.
type Bucket struct {
	blob.Store
	Unfinished func(t *testing.T, key string)
}

// OpenBucket opens a server's bucket.
func OpenBucket(tb testing.TB, s devstack.S3, pool *blob.Pool) Bucket {
	tb.Helper()
	keys := credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, s.SessionToken)
	store, err := s3blob.Open(tb.Context(), s3blob.Config{
		Bucket: s.Bucket, Region: s.Region, Endpoint: s.Endpoint, PathStyle: s.PathStyle, Pool: pool, Credentials: keys,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return Bucket{store, func(t *testing.T, key string) {
		t.Helper()
		transport := &http.Transport{DisableKeepAlives: true}
		client := s3.New(s3.Options{
			Region: s.Region, BaseEndpoint: &s.Endpoint, UsePathStyle: s.PathStyle, Credentials: keys, HTTPClient: &http.Client{Transport: transport},
		})
		if _, err := client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &s.Bucket, Key: &key}); err != nil {
			t.Fatal(err)
		}
	}}
}

// rowViews are the harness's views on the table.
func rowViews(h *storagetest.Harness, db *pgxpool.Pool) {
	h.Rows = func(t *testing.T, ws storage.WorkspaceID) int {
		t.Helper()
		var n int
		if err := db.QueryRow(t.Context(), "SELECT count(*) FROM pending_uploads WHERE workspace_id = $1", ws.String()).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	h.Age = func(t *testing.T, ws storage.WorkspaceID, f storage.FileID, d time.Duration) {
		t.Helper()
		update(t, db, `UPDATE pending_uploads SET created_at = created_at - @d::interval, fetched_at = fetched_at - @d::interval,
			acked_at = acked_at - @d::interval, expires_at = expires_at - @d::interval WHERE workspace_id = @ws AND file_id = @f`, ws, f, d)
	}
	h.Expire = func(t *testing.T, ws storage.WorkspaceID, f storage.FileID) {
		t.Helper()
		update(t, db, `UPDATE pending_uploads SET expires_at = now() - @d::interval WHERE workspace_id = @ws AND file_id = @f`, ws, f, time.Millisecond)
	}
	h.Key = func(ws storage.WorkspaceID, f storage.FileID) string {
		return Prefix + "/" + ws.String() + "/" + f.String()
	}
}

func update(t *testing.T, db *pgxpool.Pool, sql string, ws storage.WorkspaceID, f storage.FileID, d time.Duration) {
	t.Helper()
	tag, err := db.Exec(t.Context(), sql, pgx.NamedArgs{"ws": ws.String(), "f": f.String(), "d": d})
	if err != nil || tag.RowsAffected() != 1 {
		t.Fatalf("%d rows, %v", tag.RowsAffected(), err)
	}
}

// hooked calls the suite's hooks around the real rows.
type hooked struct {
	staging.Rows
	o storagetest.Options
}

func (h hooked) Insert(ctx context.Context, ws storage.WorkspaceID, uploads []metadata.NewUpload) ([]storage.Record, error) {
	if h.o.BeforeCommit != nil {
		if err := h.o.BeforeCommit(ctx); err != nil {
			return nil, err
		}
	}
	return h.Rows.Insert(ctx, ws, uploads)
}

func (h hooked) Sweep(ctx context.Context, retention time.Duration, limit int, discard func(ctx context.Context, keys []string) error) (storage.SweepResult, error) {
	return h.Rows.Sweep(ctx, retention, limit, func(ctx context.Context, keys []string) error {
		if err := discard(ctx, keys); err != nil || h.o.Discarding == nil {
			return err
		}
		return h.o.Discarding(ctx)
	})
}

// Keys lists what is in the object store, unfinished uploads included.
func Keys(t *testing.T, objects blob.Store) []string {
	t.Helper()
	var keys []string
	for o, err := range objects.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	for u, err := range objects.ListUnfinished(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, u.Key+" (unfinished)")
	}
	return keys
}

// PutObject stores a byte under a raw key.
func PutObject(t *testing.T, objects blob.Store, key string) {
	t.Helper()
	if err := objects.Put(t.Context(), key, strings.NewReader("x"), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}
