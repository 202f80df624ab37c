package offload_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/stagingtest"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/offload"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

// objects is a real object store that counts, and that tests get in between.
type objects struct {
	blob.Store
	blob.Header
	opens, puts, deletes atomic.Int32

	stored func(ctx context.Context, key string) error // after every put, if set
	head   func(info blob.Info) blob.Info              // what Head answers, if set
}

func (o *objects) Put(ctx context.Context, key string, body io.Reader, opts blob.PutOptions) error {
	o.puts.Add(1)
	err := o.Store.Put(ctx, key, body, opts)
	if err == nil && o.stored != nil {
		err = o.stored(ctx, key)
	}
	return err
}

func (o *objects) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	o.opens.Add(1)
	return o.Store.Open(ctx, key, offset, length)
}

func (o *objects) Delete(ctx context.Context, keys ...string) error {
	o.deletes.Add(1)
	return o.Store.Delete(ctx, keys...)
}

func (o *objects) Head(ctx context.Context, key string) (blob.Info, error) {
	info, err := o.Header.Head(ctx, key)
	if err == nil && o.head != nil {
		info = o.head(info)
	}
	return info, err
}

// world is rows in a database, objects in a bucket, and a store on both that puts
// everything into rows.
type world struct {
	db      *pgxpool.Pool
	uploads *metadata.Uploads
	objects *objects
	pool    *blob.Pool
	store   *staging.Store
	ws      storage.WorkspaceID
	files   map[storage.FileID][]byte
}

func newWorld(t *testing.T, server func(testing.TB) devstack.S3) *world {
	t.Helper()
	db, err := metadata.Open(t.Context(), metadata.PoolConfig{URL: devstack.Database(t), MaxConns: 12})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	pool, err := blob.NewPool(blob.PoolConfig{MaxWait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	bucket := stagingtest.OpenBucket(t, server(t), pool).Store
	w := &world{
		db: db, uploads: metadata.NewUploads(metadata.UploadsConfig{DB: db}), pool: pool,
		objects: &objects{Store: bucket, Header: bucket.(blob.Header)},
		ws:      storage.WorkspaceID(uuid.New()), files: map[storage.FileID][]byte{},
	}
	w.store = w.open(t, storage.DefaultMaxFileBytes, time.Now)
	return w
}

func (w *world) open(t *testing.T, inlineMax int64, now func() time.Time) *staging.Store {
	t.Helper()
	s, err := staging.New(staging.Config{
		Rows: w.uploads, Objects: w.objects, Budget: w.pool, InlineMaxBytes: inlineMax, KeyPrefix: stagingtest.Prefix, Now: now, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// orphans sweeps them as if everything were a day old.
func (w *world) orphans(t *testing.T) int {
	t.Helper()
	r, err := w.open(t, 0, func() time.Time { return time.Now().Add(24 * time.Hour) }).SweepOrphans(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return r.Objects
}

func noise(size int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(size >> 16)})
	_, _ = r.Read(b)
	return b
}

// row inserts inline content, with the digest given.
func (w *world) row(t *testing.T, content []byte, digest storage.Digest, id uuid.UUID) storage.FileID {
	t.Helper()
	_, err := w.uploads.Insert(t.Context(), w.ws, []metadata.NewUpload{{
		FileID: storage.FileID(id), Filename: "a", MIMEType: "text/x-test", Size: int64(len(content)), SHA256: digest, Content: content,
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.files[storage.FileID(id)] = content
	return storage.FileID(id)
}

// put stages inline content as the service does.
func (w *world) put(t *testing.T, content []byte) storage.FileID {
	t.Helper()
	return w.row(t, content, sha256.Sum256(content), uuid.Must(uuid.NewV7()))
}

func (w *world) config(mode offload.Mode) offload.Config {
	return offload.Config{
		DB: w.db, Uploads: w.uploads, Objects: w.objects, KeyPrefix: stagingtest.Prefix, Budget: w.pool, PartBytes: w.pool.PartBytes(), Mode: mode,
		Patience: 20 * time.Second, Logger: slog.New(slog.DiscardHandler),
	}
}

func (w *world) run(t *testing.T, cfg offload.Config) offload.Result {
	t.Helper()
	r, err := w.try(t.Context(), t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (w *world) try(ctx context.Context, t *testing.T, cfg offload.Config) (offload.Result, error) {
	t.Helper()
	m, err := offload.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m.Run(ctx)
}

// intact wants every file to be readable, and returns how many lie in objects.
func (w *world) intact(t *testing.T) (inObjects int) {
	t.Helper()
	for f, want := range w.files {
		r, err := w.store.Get(t.Context(), w.ws, f)
		if err != nil {
			t.Fatal(f, err)
		}
		rc, err := r.Content.Open(t.Context(), storage.Range{})
		if err != nil {
			t.Fatal(f, err)
		}
		got, err := io.ReadAll(rc)
		if err = errors.Join(err, rc.Close()); err != nil || string(got) != string(want) || r.Content.SHA256 != sha256.Sum256(want) {
			t.Errorf("%v: %d bytes that differ of %d, %v", f, len(got), len(want), err)
		}
		if r.Content.Placement == storage.PlacementObject {
			inObjects++
			if key := stagingtest.Prefix + "/" + w.ws.String() + "/" + f.String(); r.Content.ObjectKey != key {
				t.Errorf("key %s, want %s", r.Content.ObjectKey, key)
			}
		}
	}
	return inObjects
}

func (w *world) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := w.db.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// inObjects counts the rows that cite an object.
func (w *world) inObjects(t *testing.T) (n int) {
	t.Helper()
	if err := w.db.QueryRow(t.Context(), `SELECT count(*) FROM pending_uploads WHERE object_key IS NOT NULL`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// eventually waits for a number of rows that cite an object.
func (w *world) eventually(t *testing.T, want int) {
	t.Helper()
	deadline, tick := time.After(30*time.Second), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for n := w.inObjects(t); n != want; n = w.inObjects(t) {
		select {
		case <-deadline:
			t.Fatalf("%d rows cite an object, want %d", n, want)
		case <-tick.C:
		}
	}
}
