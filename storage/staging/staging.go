// Package staging is the implementation of storage.Storage: metadata in
// PostgreSQL, content in an object store or, up to a configured size, in the row
// itself. It decides where content is placed and in which order bytes and rows
// become durable; the promises it keeps are those of package storage.
//
// Objects have the keys PREFIX/WORKSPACE_ID/FILE_ID. File ids are UUIDv7 made
// here; nothing the uploader chose enters a key.
package staging

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// Rows is what staging needs of the metadata store; *metadata.Uploads is one.
type Rows interface {
	// Insert commits all rows (and their feed entries) or none. An error that
	// wraps metadata.ErrCommitUnknown leaves open which.
	Insert(ctx context.Context, ws storage.WorkspaceID, uploads []metadata.NewUpload) ([]storage.Record, error)
	Get(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (storage.Record, error)
	// GetContent is Get with the bytes of a row that holds its content itself.
	GetContent(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (storage.Record, []byte, error)
	Stat(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (storage.Record, error)
	// ReadInline returns the bytes of a row that holds its content itself.
	ReadInline(ctx context.Context, ws storage.WorkspaceID, f storage.FileID, offset, length int64) ([]byte, error)
	MarkFetched(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) error
	// GetFetched is Get and MarkFetched in one.
	GetFetched(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (storage.Record, error)
	Ack(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) error
	// Sweep hides up to limit rows that are due, calls discard with the object keys
	// of hidden rows and then deletes the rows.
	Sweep(ctx context.Context, retention time.Duration, limit int, discard func(ctx context.Context, keys []string) error) (storage.SweepResult, error)
	// Missing returns those ids that have no row in any state.
	Missing(ctx context.Context, ids []metadata.UploadID) ([]metadata.UploadID, error)
}

// Budget is memory shared by all uploads; *blob.Pool is one.
type Budget interface {
	// Reserve takes n bytes, waiting a bounded time; blob.ErrBusy after it.
	Reserve(ctx context.Context, n int64) (release func(), err error)
}

// Config of a Store. Rows is required; everything else has a default.
type Config struct {
	Rows Rows

	// Objects is where content goes that is not inline. Nil: everything is
	// inline, and InlineMaxBytes is the per-file cap.
	Objects blob.Store

	// Budget bounds the bytes of inline content held at once, copies included
	// (InlineCopies). Required where anything can go inline; a batch that needs
	// more than there is at all fails. It should be the pool that Objects draws
	// from, with ReservableBytes of about half where both placements occur.
	Budget Budget

	// InlineMaxBytes is the largest file kept in its row. 0: none.
	InlineMaxBytes int64

	// KeyPrefix is put before every object key, without slashes at its ends.
	// Empty is allowed.
	KeyPrefix string

	// Limits default to storage.DefaultLimits.
	Limits storage.Limits

	// MaxFilesPerBatch is the most files of one batch. Default
	// storage.MaxFilesPerBatch.
	MaxFilesPerBatch int

	// MaxUploadTime ends a batch that takes longer, measured from its first
	// read to the commit, by the monotonic clock and, before the commit, by Now.
	// It keeps uploads shorter than the grace period after which SweepOrphans
	// takes their objects, so all stores on one prefix agree on it. Default
	// 30 minutes.
	MaxUploadTime time.Duration

	// FilesInFlight is how many files of one batch may wait for the object store
	// at once while the next is read. Default 4.
	FilesInFlight int

	// ReadPatience bounds how long Open, or a reader whose transfer broke, keeps
	// asking the object store before it gives up, whether that fails or does not
	// answer: pollers treat any failure as final, and wait 15 s for headers
	// (contract 7.2). Default 10 s.
	ReadPatience time.Duration

	// Now is the wall clock that ages of objects and of batches are measured
	// with. Default time.Now.
	Now func() time.Time

	// Logger receives what no caller is told: discarded leftovers that could not
	// be removed, objects of live rows that are gone. Default slog.Default().
	Logger *slog.Logger
}

// InlineCopies is how many times inline content is in memory while its row is
// written: as it was read, as the statement's parameter, and as the message to
// PostgreSQL. Batches take that many times their inline bytes from the Budget.
const InlineCopies = 3

// commitTime bounds the transaction that makes a batch visible. It is not cut
// short when the client leaves, because then nobody could tell what became of it.
const commitTime = 15 * time.Second

// lookUpTime bounds the question what became of a commit. It is on top of
// commitTime, which may be what cut the answer off.
const lookUpTime = 5 * time.Second

// discardTime bounds the removal of what a failed batch left.
const discardTime = 30 * time.Second

// Store implements storage.Storage and storage.Sweeper.
type Store struct {
	rows          Rows
	within        bool // rows are of a transaction of the caller's
	objects       blob.Store
	budget        Budget
	inlineMax     int64
	keys          keyspace
	limits        storage.Limits
	maxFiles      int
	maxUploadTime time.Duration
	filesInFlight int
	readPatience  time.Duration
	now           func() time.Time
	log           *slog.Logger
	direct        *directSupport
	digests       *digests
}

var (
	_ storage.Storage = (*Store)(nil)
	_ storage.Sweeper = (*Store)(nil)
	_ Rows            = (*metadata.Uploads)(nil)
)

// New returns a Store. It does no I/O; the error names the setting that is wrong.
func New(cfg Config) (*Store, error) {
	if cfg.Rows == nil {
		return nil, errors.New("staging: Config.Rows is required")
	}
	if cfg.Limits == (storage.Limits{}) {
		cfg.Limits = storage.DefaultLimits()
	}
	if err := cfg.Limits.Validate(); err != nil {
		return nil, fmt.Errorf("staging: %w", err)
	}
	if cfg.InlineMaxBytes < 0 {
		return nil, fmt.Errorf("staging: INLINE_MAX_BYTES is %d, want 0 or more", cfg.InlineMaxBytes)
	}
	if cfg.Objects == nil || cfg.InlineMaxBytes > cfg.Limits.MaxFileBytes {
		cfg.InlineMaxBytes = cfg.Limits.MaxFileBytes
	}
	if cfg.InlineMaxBytes > 0 && cfg.Budget == nil {
		return nil, errors.New("staging: Config.Budget is required where content can go inline")
	}
	keys, err := newKeyspace(cfg.KeyPrefix)
	if err != nil {
		return nil, fmt.Errorf("staging: %w", err)
	}
	s := &Store{
		rows: cfg.Rows, objects: cfg.Objects, budget: cfg.Budget, inlineMax: cfg.InlineMaxBytes,
		keys: keys, limits: cfg.Limits, maxFiles: cfg.MaxFilesPerBatch, maxUploadTime: cfg.MaxUploadTime, filesInFlight: cfg.FilesInFlight,
		readPatience: cfg.ReadPatience, now: cfg.Now, log: cfg.Logger,
	}
	if s.maxFiles <= 0 {
		s.maxFiles = storage.MaxFilesPerBatch
	}
	if s.maxUploadTime <= 0 {
		s.maxUploadTime = 30 * time.Minute
	}
	if s.filesInFlight <= 0 {
		s.filesInFlight = 4
	}
	if s.readPatience <= 0 {
		s.readPatience = 10 * time.Second
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.direct = &directSupport{dir: string(keys) + probeDir, now: s.now, log: s.log}
	s.digests = &digests{}
	return s, nil
}

// Within is the same store with other rows: those of a transaction of the
// caller's, such as metadata.Uploads.Within makes. What it stages becomes visible
// when the caller commits, which has to be before SweepOrphans takes the objects
// for orphans; when he rolls back they are. His context ends the insertion too.
func (s *Store) Within(rows Rows) *Store {
	within := *s
	within.rows, within.within = rows, true
	return &within
}

// MarkFetched implements storage.Storage.
func (s *Store) MarkFetched(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) error {
	return s.rows.MarkFetched(ctx, ws, f)
}

// Ack implements storage.Storage.
func (s *Store) Ack(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) error {
	return s.rows.Ack(ctx, ws, f)
}

// Stat implements storage.Storage.
func (s *Store) Stat(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (storage.Record, error) {
	return s.rows.Stat(ctx, ws, f)
}
