package bench

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/internal/servertest"
	"github.com/molecule-ai/pendinguploads/internal/stagingtest"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage/offload"
)

// offloadWorkers is offload's default of rows at a time.
const offloadWorkers = 4

// BenchmarkOffload moves inline rows into objects, by storage/offload and by a loop
// of the three calls that it takes at least (SELECT, PutObject, UPDATE), by as many
// workers each, in turns. Only offload claims rows, hashes and verifies.
func BenchmarkOffload(b *testing.B) {
	stack := servertest.NewStack(b)
	db, err := metadata.Open(b.Context(), metadata.PoolConfig{URL: stack.Database, MaxConns: offloadWorkers * offload.ConnsPerWorker})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(db.Close)
	pool, err := blob.NewPool(blob.PoolConfig{})
	if err != nil {
		b.Fatal(err)
	}
	store := stagingtest.OpenBucket(b, stack.S3, pool).Store
	s := &service{s3: stack.S3, client: stack.S3.Client()}
	for _, size := range []struct {
		name    string
		n, rows int
	}{{"4KiB", 4 << 10, 400}, {"1MiB", 1 << 20, 32}, {"16MiB", 16 << 20, 8}} {
		b.Run(size.name, func(b *testing.B) {
			content := noise(b, size.n)
			m := &moves{service: s, db: db, store: store, partBytes: pool.PartBytes(), content: content, rows: size.rows}
			var ours, bare time.Duration
			b.SetBytes(int64(size.rows * size.n))
			m.measure(b, m.offload)
			m.measure(b, m.bare) // connections, buffers
			for b.Loop() {
				ours += m.measure(b, m.offload)
				bare += m.measure(b, m.bare)
			}
			mb := float64(b.N*size.rows*size.n) / 1e6
			b.ReportMetric(mb/ours.Seconds(), "ours-MB/s")
			b.ReportMetric(mb/bare.Seconds(), "bare-MB/s")
			b.ReportMetric(bare.Seconds()/ours.Seconds(), "ratio")
		})
	}
}

// moves is a table of equal rows.
type moves struct {
	*service
	db        *pgxpool.Pool
	store     blob.Store
	partBytes int
	content   []byte
	rows      int
}

// measure times one move of all rows.
func (m *moves) measure(b *testing.B, move func(*testing.B)) time.Duration {
	b.Helper()
	b.StopTimer()
	m.fill(b)
	start := time.Now()
	b.StartTimer()
	move(b)
	took := time.Since(start)
	b.StopTimer()
	var left int
	if err := m.db.QueryRow(b.Context(), "SELECT count(*) FROM pending_uploads WHERE content IS NOT NULL").Scan(&left); err != nil || left != 0 {
		b.Fatal(left, err)
	}
	m.clear(b)
	b.StartTimer()
	return took
}

func (m *moves) fill(b *testing.B) {
	b.Helper()
	if _, err := m.db.Exec(b.Context(), "TRUNCATE pending_uploads"); err != nil {
		b.Fatal(err)
	}
	for range m.rows {
		if _, err := m.db.Exec(b.Context(), `INSERT INTO pending_uploads (workspace_id, content, size_bytes, filename, sha256)
			VALUES ($1, $2, $3, 'a', sha256($2))`, uuid.New(), m.content, len(m.content)); err != nil {
			b.Fatal(err)
		}
	}
	// Neither is to pay for what the other one wrote.
	if _, err := m.db.Exec(b.Context(), "CHECKPOINT"); err != nil {
		b.Fatal(err)
	}
}

func (m *moves) offload(b *testing.B) {
	mover, err := offload.New(offload.Config{
		DB: m.db, Uploads: metadata.NewUploads(metadata.UploadsConfig{DB: m.db}), Objects: m.store, KeyPrefix: "bench", PartBytes: m.partBytes,
		Workers: offloadWorkers, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	if r, err := mover.Run(b.Context()); err != nil || r.Rows != int64(m.rows) {
		b.Fatal(r, err)
	}
}

func (m *moves) bare(b *testing.B) {
	found, err := m.db.Query(b.Context(), "SELECT file_id FROM pending_uploads")
	if err != nil {
		b.Fatal(err)
	}
	ids, err := pgx.CollectRows(found, pgx.RowTo[uuid.UUID])
	if err != nil {
		b.Fatal(err)
	}
	next := make(chan uuid.UUID, len(ids))
	for _, id := range ids {
		next <- id
	}
	close(next)
	var wg sync.WaitGroup
	for range offloadWorkers {
		wg.Go(func() {
			for id := range next {
				if err := m.move(b.Context(), id); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func (m *moves) move(ctx context.Context, id uuid.UUID) error {
	var content []byte
	if err := m.db.QueryRow(ctx, "SELECT content FROM pending_uploads WHERE file_id = $1", id).Scan(&content); err != nil {
		return err
	}
	key := fmt.Sprintf("bare/%v", id)
	if _, err := m.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &m.s3.Bucket, Key: &key, Body: bytes.NewReader(content), ContentLength: aws.Int64(int64(len(content))),
	}); err != nil {
		return err
	}
	_, err := m.db.Exec(ctx, "UPDATE pending_uploads SET object_key = $2, content = NULL WHERE file_id = $1", id, key)
	return err
}
