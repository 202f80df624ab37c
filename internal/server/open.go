package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/migrations"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

// objectsPatience is how long a start waits for the object store, retries
// included.
const objectsPatience = 30 * time.Second

// errNoObjects is the cause of a start's end after objectsPatience.
var errNoObjects = fmt.Errorf("no answer within %v", objectsPatience)

// partBytes is the size of an upload's part buffer: the least that S3 takes.
const partBytes = s3blob.MinPartBytes

// Sets are the migrations that the service needs.
var sets = []migrations.Set{migrations.Uploads, migrations.Service}

// Sets lists the migration sets that the service needs, in order.
func Sets() []migrations.Set { return append([]migrations.Set(nil), sets...) }

// OpenDatabase connects to PostgreSQL.
func (d Database) OpenDatabase(ctx context.Context) (*pgxpool.Pool, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	db, err := metadata.Open(ctx, metadata.PoolConfig{URL: d.DatabaseURL, MaxConns: d.DatabaseMaxConns, ApplicationName: "pendinguploads"})
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	return db, nil
}

// StoreConfig is the object store's configuration, with the SDK's chain for
// credentials.
func (o Objects) StoreConfig(pool *blob.Pool, log *slog.Logger) s3blob.Config {
	return s3blob.Config{
		Bucket: o.S3Bucket, Region: o.S3Region, Endpoint: o.S3Endpoint, PathStyle: o.S3UsePathStyle,
		PublicEndpoint: o.S3PublicEndpoint, Pool: pool, Checksum: s3blob.ChecksumMode(o.S3Checksum),
		Encryption: s3blob.Encryption(o.S3SSE), KMSKeyID: o.S3SSEKMSKeyID, Tags: o.S3Tags, Logger: log,
	}
}

// openObjects connects to the object store; nil without S3_BUCKET.
func (o Objects) openObjects(ctx context.Context, pool *blob.Pool, log *slog.Logger) (blob.Store, error) {
	if o.S3Bucket == "" {
		return nil, nil
	}
	store, err := s3blob.Open(ctx, o.StoreConfig(pool, log))
	if err != nil {
		return nil, fmt.Errorf("open S3: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, objectsPatience, errNoObjects)
	defer cancel()
	err = store.EnsureBucket(ctx, o.S3CreateBucket)
	switch {
	case err == nil:
		return store, nil
	case errors.Is(err, blob.ErrBucketNotFound) && !o.S3CreateBucket:
		return nil, fmt.Errorf("S3_BUCKET: %w (set S3_CREATE_BUCKET to have it created)", err)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("S3_ENDPOINT: %w: %w", context.Cause(ctx), err)
	case s3blob.Unreachable(err):
		return nil, fmt.Errorf("S3_ENDPOINT: cannot be reached: %w", err)
	}
	return nil, fmt.Errorf("S3_BUCKET: %w", err)
}

// openPlaces opens the object store, nil without S3_BUCKET, and the memory that
// uploads share.
func openPlaces(ctx context.Context, o Objects, u Uploads, log *slog.Logger) (blob.Store, *blob.Pool, error) {
	if err := o.validate(); err != nil {
		return nil, nil, err
	}
	if err := u.validate(o.S3Bucket == ""); err != nil {
		return nil, nil, err
	}
	pool, err := blob.NewPool(blob.PoolConfig{PartBytes: partBytes, BudgetBytes: u.UploadMemoryBytes, ReservableBytes: u.reservable(o.S3Bucket == "")})
	if err != nil {
		return nil, nil, fmt.Errorf("UPLOAD_MEMORY_BYTES: %w", err)
	}
	objects, err := o.openObjects(ctx, pool, log)
	if err != nil {
		return nil, nil, err
	}
	return objects, pool, nil
}

// OpenStaging puts the store of pending uploads together. The announcer may be
// nil where nothing is uploaded.
func OpenStaging(ctx context.Context, o Objects, u Uploads, db metadata.DB, announcer metadata.Announcer, log *slog.Logger) (*staging.Store, *metadata.Uploads, *blob.Pool, error) {
	objects, pool, err := openPlaces(ctx, o, u, log)
	if err != nil {
		return nil, nil, nil, err
	}
	rows := metadata.NewUploads(metadata.UploadsConfig{DB: db, TTL: u.UploadTTL, ReadAfterAck: u.ReadAfterAck, Announcer: announcer, Quota: u.quota()})
	store, err := staging.New(staging.Config{
		Rows: rows, Objects: objects, Budget: pool, InlineMaxBytes: u.InlineMaxBytes, KeyPrefix: o.S3Prefix,
		Limits: u.limits(), MaxUploadTime: u.MaxUploadTime, Logger: log,
	})
	if err != nil {
		return nil, nil, nil, err
	}
	return store, rows, pool, nil
}
