package bench

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"
	"golang.org/x/sync/errgroup"

	"github.com/molecule-ai/pendinguploads"
	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/stagingtest"
)

// embedded is the root package on a pool as platforms open it.
type embedded struct {
	*service // its object store
	db       *sql.DB
	inline   *pendinguploads.Store
	placed   *pendinguploads.Store
}

func embed(b *testing.B, driver string) embedded {
	b.Helper()
	db, err := sql.Open(driver, devstack.Database(b))
	if err != nil {
		b.Fatal(err)
	}
	db.SetMaxOpenConns(concurrency)
	db.SetMaxIdleConns(concurrency)
	b.Cleanup(func() { _ = db.Close() })
	s := devstack.MinIO(b)
	pool, err := blob.NewPool(blob.PoolConfig{MaxWait: time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	objects := stagingtest.OpenBucket(b, s, pool).Store
	return embedded{
		service: &service{s3: s, client: s.Client()}, db: db,
		inline: pendinguploads.NewPostgres(db), placed: pendinguploads.NewS3(db, objects),
	}
}

// Statements as the platforms issue them by hand (contract 3.1).
const (
	handPut = `INSERT INTO pending_uploads (workspace_id, content, size_bytes, filename, mimetype)
		VALUES ($1, $2, $3, $4, $5) RETURNING file_id`
	handGet = `SELECT file_id, workspace_id, content, filename, mimetype, size_bytes, created_at, fetched_at, acked_at, expires_at
		FROM pending_uploads WHERE file_id = $1 AND acked_at IS NULL AND expires_at > now()`
)

// BenchmarkEmbed has inline Put and Get beside the same statements by hand on the
// same pool, and those of the object store beside the bare S3 client.
func BenchmarkEmbed(b *testing.B) {
	for _, driver := range []string{"postgres", "pgx"} {
		e := embed(b, driver)
		for _, size := range sizes[:2] {
			content, ws := noise(b, size.n), uuid.New()
			b.Run(fmt.Sprintf("inline/Put/%s/%s", driver, size.name), func(b *testing.B) {
				alternate(b, size.n,
					func(int64) error { _, err := e.inline.Put(b.Context(), ws, content, "a.bin", ""); return err },
					func(int64) error { return e.handPut(b, ws, content) })
			})
			b.Run(fmt.Sprintf("inline/Get/%s/%s", driver, size.name), func(b *testing.B) {
				id := e.stage(b, e.inline, content)
				alternate(b, size.n,
					func(int64) error { return embeddedGet(b, e.inline, id, size.n) },
					func(int64) error { return e.handGet(b, id, size.n) })
			})
			b.Run(fmt.Sprintf("S3/Put/%s/%s", driver, size.name), func(b *testing.B) {
				inTurns(b, e.service, size.n,
					func(int64) error { _, err := e.placed.Put(b.Context(), ws, content, "a.bin", ""); return err },
					func(i int64) error { return e.put(b, fmt.Sprintf("bare/%d", i), content) })
			})
			b.Run(fmt.Sprintf("S3/Get/%s/%s", driver, size.name), func(b *testing.B) {
				id := e.stage(b, e.placed, content)
				if err := e.put(b, "bare/get", content); err != nil {
					b.Fatal(err)
				}
				inTurns(b, e.service, size.n,
					func(int64) error { return embeddedGet(b, e.placed, id, size.n) },
					func(int64) error { _, err := e.getBytes(b, "bare/get", size.n); return err })
			})
		}
	}
}

// BenchmarkEmbedBatch has one batch of 64 files of 4 KiB beside 64 single puts,
// one after the other as a handler makes them. "bare" is what batching can save: one
// statement of 64 rows by hand beside 64 of one row, and 64 puts of the bare client,
// as many at a time as a batch has on their way, beside one after the other.
func BenchmarkEmbedBatch(b *testing.B) {
	e := embed(b, "postgres")
	content, ws := noise(b, 4<<10), uuid.New()
	items := make([]pendinguploads.PutItem, 64)
	for i := range items {
		items[i] = pendinguploads.PutItem{Content: content, Filename: "a.bin"}
	}
	batch := func(s *pendinguploads.Store) func() error {
		return func() error { _, err := s.PutBatch(b.Context(), ws, items); return err }
	}
	single := func(s *pendinguploads.Store) func(int) error {
		return func(int) error { _, err := s.Put(b.Context(), ws, content, "a.bin", ""); return err }
	}
	bare := func(i int) error { return e.put(b, fmt.Sprint("bare/", i), content) }
	for _, c := range []struct {
		name string
		all  func() error
		each func(i int) error
	}{
		{"inline", batch(e.inline), single(e.inline)},
		{"inline/bare", func() error { return e.handPutAll(b, ws, content, len(items)) }, func(int) error { return e.handPut(b, ws, content) }},
		{"S3", batch(e.placed), single(e.placed)},
		{"S3/bare", func() error {
			var group errgroup.Group
			group.SetLimit(4) // default of staging.Config.FilesInFlight
			for i := range items {
				group.Go(func() error { return bare(i) })
			}
			return group.Wait()
		}, bare},
	} {
		b.Run(c.name, func(b *testing.B) {
			var all, each time.Duration
			for b.Loop() {
				start := time.Now()
				if err := c.all(); err != nil {
					b.Fatal(err)
				}
				all += time.Since(start)
				start = time.Now()
				for i := range items {
					if err := c.each(i); err != nil {
						b.Fatal(err)
					}
				}
				each += time.Since(start)
			}
			b.ReportMetric(float64(each)/float64(all), "times-single-rate")
		})
	}
	e.clear(b)
}

func (e embedded) stage(b *testing.B, s *pendinguploads.Store, content []byte) uuid.UUID {
	b.Helper()
	id, err := s.Put(b.Context(), uuid.New(), content, "a.bin", "")
	if err != nil {
		b.Fatal(err)
	}
	// As autovacuum does: without statistics the planner may go by the expiry.
	if _, err := e.db.ExecContext(b.Context(), `ANALYZE pending_uploads`); err != nil {
		b.Fatal(err)
	}
	return id
}

func embeddedGet(b *testing.B, s *pendinguploads.Store, id uuid.UUID, size int) error {
	r, err := s.Get(b.Context(), id)
	if err == nil && len(r.Content) != size {
		err = fmt.Errorf("%d bytes, want %d", len(r.Content), size)
	}
	return err
}

// getBytes has the whole object in memory, as Get has.
func (e embedded) getBytes(b *testing.B, key string, size int) ([]byte, error) {
	out, err := e.client.GetObject(b.Context(), &s3.GetObjectInput{Bucket: &e.s3.Bucket, Key: &key})
	if err != nil {
		return nil, err
	}
	content := make([]byte, size)
	_, err = io.ReadFull(out.Body, content)
	return content, errors.Join(err, out.Body.Close())
}

func (e embedded) handPut(b *testing.B, ws uuid.UUID, content []byte) error {
	var id uuid.UUID
	return e.db.QueryRowContext(b.Context(), handPut, ws, content, len(content), "a.bin", "").Scan(&id)
}

// handPutAll inserts n rows in one statement.
func (e embedded) handPutAll(b *testing.B, ws uuid.UUID, content []byte, n int) error {
	var rows []string
	args := []any{ws, len(content), "a.bin", ""}
	for range n {
		args = append(args, content)
		rows = append(rows, fmt.Sprintf("($1, $%d, $2, $3, $4)", len(args)))
	}
	found, err := e.db.QueryContext(b.Context(), "INSERT INTO pending_uploads (workspace_id, content, size_bytes, filename, mimetype) VALUES "+
		strings.Join(rows, ", ")+" RETURNING file_id", args...)
	if err != nil {
		return err
	}
	defer func() { _ = found.Close() }()
	for found.Next() {
		n--
	}
	if err := found.Err(); err != nil || n != 0 {
		return fmt.Errorf("%d rows are missing, %w", n, err)
	}
	return nil
}

func (e embedded) handGet(b *testing.B, id uuid.UUID, size int) error {
	var r pendinguploads.Record
	err := e.db.QueryRowContext(b.Context(), handGet, id).Scan(&r.FileID, &r.WorkspaceID, &r.Content, &r.Filename, &r.Mimetype,
		&r.SizeBytes, &r.CreatedAt, &r.FetchedAt, &r.AckedAt, &r.ExpiresAt)
	if err == nil && len(r.Content) != size {
		err = fmt.Errorf("%d bytes, want %d", len(r.Content), size)
	}
	return err
}
