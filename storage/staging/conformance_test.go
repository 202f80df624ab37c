package staging_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/stagingtest"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage/storagetest"
)

func TestS3OnMinIO(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, stagingtest.Placement{Server: devstack.MinIO}.Open(stagingtest.Staging))
}

func TestS3OnVersityGW(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, stagingtest.Placement{Server: devstack.VersityGW}.Open(stagingtest.Staging))
}

func TestInline(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, stagingtest.Placement{}.Open(stagingtest.Staging))
}

func TestSmallFilesInlineTheRestOnMinIO(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, stagingtest.Placement{Server: devstack.MinIO, InlineMax: 64 << 10}.Open(stagingtest.Staging))
}

const prefix = stagingtest.Prefix

func s3Objects(server func(testing.TB) devstack.S3) func(*testing.T, *blob.Pool) stagingtest.Bucket {
	return func(t *testing.T, pool *blob.Pool) stagingtest.Bucket {
		t.Helper()
		return stagingtest.OpenBucket(t, server(t), pool)
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

func keysOf(t *testing.T, objects blob.Store) []string {
	t.Helper()
	return stagingtest.Keys(t, objects)
}

func putObject(t *testing.T, objects blob.Store, key string) {
	t.Helper()
	stagingtest.PutObject(t, objects, key)
}
