package pendinguploads

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

// Store implements FullStorage. It is safe for concurrent use.
type Store struct {
	rows    *metadata.Uploads
	staging *staging.Store
	limits  storage.Limits
	log     *slog.Logger
	metrics prometheus.Registerer
	now     func() time.Time
}

// NewPostgres keeps content in the row, on the table as the platforms have it
// (contract 4.1), migrated or not. It does no I/O.
func NewPostgres(db *sql.DB, opts ...Option) *Store {
	return newStore(db, nil, settings{reference: true}, opts)
}

// NewS3 keeps content in an object store, under the key PREFIX/WORKSPACE/FILE (see
// WithKeyPrefix), and reads inline content that is there. The table must have been
// through Migrate. It does no I/O.
func NewS3(db *sql.DB, objects blob.Store, opts ...Option) *Store {
	if objects == nil {
		panic("pendinguploads: NewS3: no object store")
	}
	return newStore(db, objects, settings{}, opts)
}

func newStore(db *sql.DB, objects blob.Store, set settings, opts []Option) *Store {
	if db == nil {
		panic("pendinguploads: no database")
	}
	set.maxFileBytes, set.keyPrefix = MaxFileBytes, storage.DefaultKeyPrefix
	// Bytes are in memory before they come here, and so is the number of files.
	set.budget, set.maxFiles, set.maxRequestBytes = unbounded{}, math.MaxInt32, math.MaxInt64
	set.hook = func(rows staging.Rows) staging.Rows { return rows }
	for _, o := range opts {
		o(&set)
	}
	if set.log == nil {
		set.log = slog.Default()
	}
	s := &Store{
		limits: storage.Limits{MaxFileBytes: set.maxFileBytes, MaxRequestBytes: set.maxRequestBytes},
		log:    set.log, metrics: set.metrics, now: set.now,
	}
	s.rows = metadata.NewUploads(metadata.UploadsConfig{
		DB: metadata.FromSQL(db), ReadAfterAck: set.readAfterAck, ReferenceTable: set.reference, AnyWorkspace: true,
	})
	var err error
	s.staging, err = staging.New(staging.Config{
		Rows: set.hook(s.rows), Objects: objects, Budget: set.budget, InlineMaxBytes: set.inlineMaxBytes, KeyPrefix: set.keyPrefix,
		Limits: s.limits, MaxFilesPerBatch: set.maxFiles, Now: set.now, Logger: set.log,
	})
	if err != nil {
		panic(fmt.Sprintf("pendinguploads: %v", err))
	}
	return s
}

// unbounded is the budget of content that callers hold in memory anyway.
type unbounded struct{}

func (unbounded) Reserve(context.Context, int64) (release func(), err error) { return func() {}, nil }

// Put implements Storage.
func (s *Store) Put(ctx context.Context, workspaceID uuid.UUID, content []byte, filename, mimetype string) (uuid.UUID, error) {
	if err := s.limits.CheckUpload(int64(len(content)), filename); err != nil {
		return uuid.Nil, fmt.Errorf("pendinguploads: put: %w", err)
	}
	ids, err := put(ctx, s.staging, workspaceID, []PutItem{{content, filename, mimetype}})
	if err != nil {
		return uuid.Nil, fmt.Errorf("pendinguploads: put: %w", err)
	}
	return ids[0], nil
}

// PutReader is Put for content that is not in memory: with NewS3 it streams
// through the part buffers of the object store, and reading stops at the cap. A
// body that fails leaves nothing. The body is not closed.
func (s *Store) PutReader(ctx context.Context, workspaceID uuid.UUID, body io.Reader, filename, mimetype string) (uuid.UUID, error) {
	r, err := s.staging.Put(ctx, storage.WorkspaceID(workspaceID), storage.Upload{Filename: filename, MIMEType: mimetype, Body: body})
	if err != nil {
		return uuid.Nil, fmt.Errorf("pendinguploads: put: %w", err)
	}
	return uuid.UUID(r.FileID), nil
}

// PutBatch implements BatchPutter.
func (s *Store) PutBatch(ctx context.Context, workspaceID uuid.UUID, items []PutItem) ([]uuid.UUID, error) {
	return s.putBatch(ctx, s.staging, workspaceID, items)
}

// PutBatchTx implements TxBatchPutter.
func (s *Store) PutBatchTx(ctx context.Context, tx *sql.Tx, workspaceID uuid.UUID, items []PutItem) ([]uuid.UUID, error) {
	if tx == nil {
		return nil, errors.New("pendinguploads: put batch: no transaction")
	}
	return s.putBatch(ctx, s.staging.Within(s.rows.Within(metadata.FromSQLTx(tx))), workspaceID, items)
}

func (s *Store) putBatch(ctx context.Context, in *staging.Store, workspaceID uuid.UUID, items []PutItem) ([]uuid.UUID, error) {
	for i, item := range items {
		if err := s.limits.CheckUpload(int64(len(item.Content)), item.Filename); err != nil {
			return nil, fmt.Errorf("pendinguploads: put batch: %w", &storage.FileError{Index: i, Filename: item.Filename, Err: err})
		}
	}
	ids, err := put(ctx, in, workspaceID, items)
	if err != nil {
		return nil, fmt.Errorf("pendinguploads: put batch: %w", err)
	}
	return ids, nil
}

// put stages items that have been checked.
func put(ctx context.Context, in *staging.Store, workspaceID uuid.UUID, items []PutItem) ([]uuid.UUID, error) {
	uploads := make([]storage.Upload, len(items))
	var sum int64
	for i, item := range items {
		uploads[i] = storage.Upload{Filename: item.Filename, MIMEType: item.Mimetype, Body: bytes.NewReader(item.Content)}
		sum += int64(len(item.Content))
	}
	records, err := in.PutBatch(ctx, storage.WorkspaceID(workspaceID), storage.Batch{Uploads: storage.Files(uploads...), MaxBytes: sum})
	if err != nil {
		return nil, err
	}
	ids := make([]uuid.UUID, len(records))
	for i, r := range records {
		ids[i] = uuid.UUID(r.FileID)
	}
	return ids, nil
}

// Get implements Storage: one statement where the content is inline, one request
// to the object store more where it is not. Content from there is held to the
// SHA-256 of the row.
func (s *Store) Get(ctx context.Context, fileID uuid.UUID) (Record, error) {
	r, content, err := s.staging.GetBytes(ctx, storage.WorkspaceID{}, storage.FileID(fileID))
	if err != nil {
		return Record{}, fmt.Errorf("pendinguploads: get: %w", err)
	}
	return s.newRecord(r, content), nil
}

// Lookup is Get without the bytes: Record.Content is nil, and Record.Open and
// Record.URL lead to them.
func (s *Store) Lookup(ctx context.Context, fileID uuid.UUID) (Record, error) {
	r, err := s.staging.Get(ctx, storage.WorkspaceID{}, storage.FileID(fileID))
	if err != nil {
		return Record{}, fmt.Errorf("pendinguploads: look up: %w", err)
	}
	return s.newRecord(r, nil), nil
}

// MarkFetched implements Storage.
func (s *Store) MarkFetched(ctx context.Context, fileID uuid.UUID) error {
	if err := s.staging.MarkFetched(ctx, storage.WorkspaceID{}, storage.FileID(fileID)); err != nil {
		return fmt.Errorf("pendinguploads: mark fetched: %w", err)
	}
	return nil
}

// Ack implements Storage.
func (s *Store) Ack(ctx context.Context, fileID uuid.UUID) error {
	if err := s.staging.Ack(ctx, storage.WorkspaceID{}, storage.FileID(fileID)); err != nil {
		return fmt.Errorf("pendinguploads: ack: %w", err)
	}
	return nil
}
