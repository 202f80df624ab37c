package storage

import (
	"context"
	"io"
	"iter"
	"time"
)

// Storage stages files for workspaces. Implementations are safe for concurrent
// use and keep the promises of the package documentation; storagetest checks
// them. Every method that takes a file id takes the workspace id too: an id of
// another workspace is ErrNotFound.
type Storage interface {
	// Put stages one file and returns its record once the row is committed.
	// It is PutBatch with one item.
	Put(ctx context.Context, ws WorkspaceID, u Upload) (Record, error)

	// PutBatch stages all files of the batch or none, and returns their records
	// in the batch's order. No files: no work, no records. The first offending
	// file decides the error, a *FileError around ErrEmpty, ErrTooLarge,
	// ErrInvalidFilename or the body's own read error; an error yielded by the
	// sequence is returned as it is. ErrTooManyFiles, ErrBusy, ErrQuota,
	// ErrWorkspaceNotFound: nothing was stored.
	PutBatch(ctx context.Context, ws WorkspaceID, b Batch) ([]Record, error)

	// Get returns a live, unacked upload (or an acked one that is not swept yet,
	// where the store is configured readable after ack). Its Content can be
	// opened any number of times until the row is swept.
	Get(ctx context.Context, ws WorkspaceID, f FileID) (Record, error)

	// Stat returns the record of a live upload whether it is acked or not. Its
	// Content has size and digest and cannot be opened.
	Stat(ctx context.Context, ws WorkspaceID, f FileID) (Record, error)

	// MarkFetched sets FetchedAt to the database's now, every time it is called.
	// It sees what Get sees.
	MarkFetched(ctx context.Context, ws WorkspaceID, f FileID) error

	// Ack records that the workspace has the file. Only the first call sets
	// AckedAt; later ones succeed while the row exists and is not expired.
	// It needs no earlier fetch.
	Ack(ctx context.Context, ws WorkspaceID, f FileID) error
}

// Sweeper removes what nobody will ask for again.
type Sweeper interface {
	// Sweep removes rows acked longer than retention ago (cut to whole seconds;
	// negative is 0) and rows that expired unacked, their objects first. At most
	// limit rows are taken; counts below limit mean that nothing more was due
	// that no other sweeper holds. Rows of objects that cannot be deleted stay and
	// are an error; what was removed beside them is counted with it.
	Sweep(ctx context.Context, retention time.Duration, limit int) (SweepResult, error)

	// SweepOrphans removes objects that have no row, and unfinished multipart
	// uploads, both older than grace. It never touches a key that this module
	// did not shape, and refuses a grace that an upload could outlast.
	SweepOrphans(ctx context.Context, grace time.Duration) (OrphanResult, error)
}

// SweepResult counts removed rows.
type SweepResult struct {
	Acked   int // acked longer than the retention ago
	Expired int // ran out unacked
}

// Total is the number of rows removed.
func (r SweepResult) Total() int { return r.Acked + r.Expired }

// OrphanResult counts what a crash, a cancelled upload or a lost commit left
// behind and a sweep removed.
type OrphanResult struct {
	Objects int // objects without a row
	Uploads int // unfinished multipart uploads, aborted
}

// Total is the number of things removed.
func (r OrphanResult) Total() int { return r.Objects + r.Uploads }

// Upload is one file on its way in.
type Upload struct {
	// Filename is stored unchanged: 1 to MaxFilenameBytes bytes. Callers that
	// take names from outside pass them through SanitizeFilename first.
	Filename string

	// MIMEType is stored unchanged and may be empty. Callers that take types
	// from outside pass them through ReduceMIMEType first.
	MIMEType string

	// Body is read once, to its end. It is not closed.
	Body io.Reader
}

// Batch is the files of one request, in order.
type Batch struct {
	// Uploads is ranged over once. Each Body is read to its end before the next
	// file is asked for, so the sequence may be backed by one stream (a multipart
	// reader). An error ends the batch and is returned as it is.
	Uploads iter.Seq2[Upload, error]

	// MaxBytes is an upper bound on the sum of the sizes, such as the
	// Content-Length of the request that carries them; 0 when unknown. It only
	// sizes the reservation for inline content, never a limit.
	MaxBytes int64
}

// Files makes a Batch sequence of uploads at hand.
func Files(uploads ...Upload) iter.Seq2[Upload, error] {
	return func(yield func(Upload, error) bool) {
		for _, u := range uploads {
			if !yield(u, nil) {
				return
			}
		}
	}
}
