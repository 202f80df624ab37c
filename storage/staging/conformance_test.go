package staging_test

import (
	"context"
	"log/slog"
	"net/http"
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

func TestS3OnMinIO(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, placed{objects: s3Objects(devstack.MinIO)}.open)
}

func TestS3OnVersityGW(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, placed{objects: s3Objects(devstack.VersityGW)}.open)
}

func TestInline(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, placed{}.open)
}

func TestSmallFilesInlineTheRestOnMinIO(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, placed{objects: s3Objects(devstack.MinIO), inlineMax: 64 << 10}.open)
}

// placed is a placement to run the suite for.
type placed struct {
	objects   func(t *testing.T, pool *blob.Pool) bucket // nil: inline
	inlineMax int64
}

// bucket is an object store and the way to leave an upload in it unfinished.
type bucket struct {
	blob.Store
	unfinished func(t *testing.T, key string)
}

func s3Objects(server func(testing.TB) devstack.S3) func(*testing.T, *blob.Pool) bucket {
	return func(t *testing.T, pool *blob.Pool) bucket {
		t.Helper()
		s := server(t)
		keys := credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, s.SessionToken)
		store, err := s3blob.Open(t.Context(), s3blob.Config{
			Bucket: s.Bucket, Region: s.Region, Endpoint: s.Endpoint, PathStyle: s.PathStyle, Pool: pool, Credentials: keys,
		})
		if err != nil {
			t.Fatal(err)
		}
		return bucket{store, func(t *testing.T, key string) {
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
}

func openDB(t *testing.T) *pgxpool.Pool {
	t.Helper()
	db, err := metadata.Open(t.Context(), metadata.PoolConfig{URL: devstack.Database(t), MaxConns: 6})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

func (p placed) newPool(t *testing.T, o storagetest.Options) *blob.Pool {
	t.Helper()
	cfg := blob.PoolConfig{MaxWait: time.Minute}
	if o.OneUpload {
		// One part buffer, and what the placement reserves for a file.
		reserved := int64(2 * storage.MiB)
		switch {
		case p.objects == nil:
			reserved = staging.InlineCopies * o.Limits.MaxFileBytes
		case p.inlineMax > 0:
			reserved = staging.InlineCopies * storage.MaxFilesPerBatch * p.inlineMax
		}
		cfg = blob.PoolConfig{BudgetBytes: blob.DefaultPartBytes + reserved, MaxWait: 300 * time.Millisecond}
	}
	pool, err := blob.NewPool(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

const prefix = "test/uploads"

func (p placed) open(t *testing.T, o storagetest.Options) storagetest.Harness {
	t.Helper()
	pool := p.newPool(t, o)
	db := openDB(t)
	var objects blob.Store
	var unfinished func(t *testing.T, key string)
	if p.objects != nil {
		b := p.objects(t, pool)
		objects, unfinished = b.Store, b.unfinished
	}
	var skew atomic.Int64
	store, err := staging.New(staging.Config{
		Rows:    hooked{metadata.NewUploads(metadata.UploadsConfig{DB: db, ReadAfterAck: o.ReadAfterAck}), o},
		Objects: objects, Budget: pool, InlineMaxBytes: p.inlineMax, KeyPrefix: prefix, Limits: o.Limits,
		Now:    func() time.Time { return time.Now().Add(time.Duration(skew.Load())) },
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	h := storagetest.Harness{
		Storage: store, Sweeper: store,
		Rows: func(t *testing.T, ws storage.WorkspaceID) int {
			t.Helper()
			var n int
			if err := db.QueryRow(t.Context(), "SELECT count(*) FROM pending_uploads WHERE workspace_id = $1", ws.String()).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		},
		Age: func(t *testing.T, ws storage.WorkspaceID, f storage.FileID, d time.Duration) {
			t.Helper()
			update(t, db, `UPDATE pending_uploads SET created_at = created_at - @d::interval, fetched_at = fetched_at - @d::interval,
				acked_at = acked_at - @d::interval, expires_at = expires_at - @d::interval WHERE workspace_id = @ws AND file_id = @f`, ws, f, d)
		},
		Expire: func(t *testing.T, ws storage.WorkspaceID, f storage.FileID) {
			t.Helper()
			update(t, db, `UPDATE pending_uploads SET expires_at = now() - @d::interval WHERE workspace_id = @ws AND file_id = @f`, ws, f, time.Millisecond)
		},
		Key: func(ws storage.WorkspaceID, f storage.FileID) string {
			return prefix + "/" + ws.String() + "/" + f.String()
		},
	}
	if objects != nil {
		h.Objects = func(t *testing.T) []string { t.Helper(); return keysOf(t, objects) }
		h.PutObject = func(t *testing.T, key string) { t.Helper(); putObject(t, objects, key) }
		h.PutUnfinished = unfinished
		_, h.URLs = objects.(blob.Presigner)
		h.AgeObjects = func(d time.Duration) { skew.Add(int64(d)) }
	}
	return h
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
	*metadata.Uploads
	o storagetest.Options
}

func (h hooked) Insert(ctx context.Context, ws storage.WorkspaceID, uploads []metadata.NewUpload) ([]storage.Record, error) {
	if h.o.BeforeCommit != nil {
		if err := h.o.BeforeCommit(ctx); err != nil {
			return nil, err
		}
	}
	return h.Uploads.Insert(ctx, ws, uploads)
}

func (h hooked) SweepDue(ctx context.Context, limit int, discard func(ctx context.Context, keys []string) error) (storage.SweepResult, error) {
	return h.Uploads.SweepDue(ctx, limit, func(ctx context.Context, keys []string) error {
		if err := discard(ctx, keys); err != nil || h.o.Discarding == nil {
			return err
		}
		return h.o.Discarding(ctx)
	})
}

func keysOf(t *testing.T, objects blob.Store) []string {
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
