// Package pendinguploads is the storage interface of platforms that stage chat
// uploads in their own database, over this module's storage: NewPostgres keeps
// bytes in the row, as they do, and NewS3 puts them into an object store. Handlers,
// transactions and the table stay as they are; only the constructor changes.
//
//	uploads := pendinguploads.NewPostgres(db)      // db is a *sql.DB of any driver
//	uploads := pendinguploads.NewS3(db, objects)   // objects is an s3blob.Store
//
// NewPostgres works on the platform's table without a migration. NewS3 needs
// Migrate, and reads what NewPostgres wrote: a table may hold both. The promises
// are those of package storage, whose implementation this is; docs/adopting.md
// has the way of a live platform from one to the other, and back.
//
// Whoever has a file id may read the file: as in the interface that this one
// takes the place of, callers compare Record.WorkspaceID before they serve it.
package pendinguploads

import (
	"context"
	"database/sql"
	"time"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// Storage stages files for workspaces that cannot be called. It has the four
// methods that every version of the platforms has, so that their test doubles go
// on compiling; what later versions added is in the interfaces beside it, and
// *Store has all of them.
type Storage interface {
	// Put stages a file and returns its id. Content of no bytes, content above
	// the cap (ErrTooLarge), and a name of no or of more than 100 bytes are
	// refused, in this order, before the database is asked for anything. Name and
	// MIME type are stored as they are: see SanitizeFilename.
	Put(ctx context.Context, workspaceID uuid.UUID, content []byte, filename, mimetype string) (uuid.UUID, error)

	// Get returns a live file that is not acked. ErrNotFound.
	Get(ctx context.Context, fileID uuid.UUID) (Record, error)

	// MarkFetched sets FetchedAt to now, at every call. It sees what Get sees.
	MarkFetched(ctx context.Context, fileID uuid.UUID) error

	// Ack sets AckedAt of a live file. Later calls succeed while the file is not
	// expired, and change nothing. ErrNotFound.
	Ack(ctx context.Context, fileID uuid.UUID) error
}

// BatchPutter stages several files, all or none.
type BatchPutter interface {
	// PutBatch stages the items and returns their ids in the same order. All are
	// held to Put's rules before the first is written; the error names the item.
	// No items: no work.
	PutBatch(ctx context.Context, workspaceID uuid.UUID, items []PutItem) ([]uuid.UUID, error)
}

// TxBatchPutter is BatchPutter in a transaction of the caller's.
type TxBatchPutter interface {
	// PutBatchTx makes all content durable, then inserts the rows in tx, which it
	// neither commits nor rolls back. With NewS3 a rollback leaves objects without
	// rows, which StartSweeper removes after OrphanGrace; a transaction must commit
	// before that.
	PutBatchTx(ctx context.Context, tx *sql.Tx, workspaceID uuid.UUID, items []PutItem) ([]uuid.UUID, error)
}

// Sweeper removes what nobody will ask for again.
type Sweeper interface {
	// Sweep removes files acked longer than ackRetention ago (cut to whole seconds;
	// negative is 0) and files that expired unacked. No file is counted twice.
	Sweep(ctx context.Context, ackRetention time.Duration) (SweepResult, error)
}

// FullStorage is everything: what later versions of the platforms call Storage.
type FullStorage interface {
	Storage
	BatchPutter
	TxBatchPutter
	Sweeper
}

var _ FullStorage = (*Store)(nil)

// PutItem is one file of a batch.
type PutItem struct {
	Content  []byte
	Filename string // 1 to 100 bytes
	Mimetype string // may be empty
}

// SweepResult counts removed files: Acked ones and Expired ones.
type SweepResult = storage.SweepResult

const (
	// MaxFileBytes is the cap of a file, in bytes, unless WithMaxFileBytes sets
	// another: 25 MiB (contract 3.1).
	MaxFileBytes = storage.DefaultMaxFileBytes

	// SweepInterval is the time between two runs of StartSweeper (contract 9.3).
	SweepInterval = storage.DefaultSweepInterval

	// DefaultAckRetention is how long acked files stay where StartSweeper is given
	// 0 (contract 9.3).
	DefaultAckRetention = storage.DefaultAckRetention

	// OrphanGrace is the age at which StartSweeper takes an object without a row
	// for a leftover.
	OrphanGrace = storage.DefaultOrphanGrace
)

// Errors that callers tell apart, with errors.Is.
var (
	// ErrNotFound: no such file, or it is expired, acked or swept.
	ErrNotFound = storage.ErrNotFound

	// ErrTooLarge: content above the cap.
	ErrTooLarge = storage.ErrTooLarge

	// ErrSchema: the table is missing, or NewS3 is used on one that did not go
	// through Migrate. Nothing was stored.
	ErrSchema = metadata.ErrSchema

	// ErrNoURL: the content is inline, so that only Open reads it.
	ErrNoURL = storage.ErrNoURL
)

// SanitizeFilename makes any name one that Put takes, by the rule of the released
// pollers (contract 5.1): the last path component, everything but letters,
// digits, dot, dash and underscore replaced by underscores, at most 100 bytes.
func SanitizeFilename(name string) string { return storage.SanitizeFilename(name) }
