package storage

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"
)

// Sentinels of direct uploads.
var (
	// ErrNoDirect: content does not go to an object store that others can write to.
	ErrNoDirect = errors.New("no direct upload to this store")

	// ErrNotUploaded: a file that is to be committed has not been written.
	ErrNotUploaded = errors.New("file was not uploaded")

	// ErrMismatch: what was written is not what was reserved.
	ErrMismatch = errors.New("content is not what was reserved")

	// ErrReservationExpired: the files were reserved too long ago to be committed.
	ErrReservationExpired = errors.New("reservation expired")

	// ErrCommitted: the files were committed before, and some of them are gone by
	// now: acked or expired, and swept.
	ErrCommitted = errors.New("files were committed and are gone")
)

// Direct stages files that their sender writes to the object store himself. It is
// implemented beside Storage and keeps the same promises: what is committed was
// durable before, and it is all files of the reservation or none.
type Direct interface {
	// ReserveDirect makes ids for the files and, for each in order, the one request
	// that writes it. Nothing is stored, and nothing is visible: what is written and
	// never committed is an orphan, for SweepOrphans. A reservation may be used for
	// ttl, or for less where the store says so.
	//
	// ErrNoDirect, ErrTooManyFiles, or a *FileError around ErrEmpty, ErrTooLarge or
	// ErrInvalidFilename.
	ReserveDirect(ctx context.Context, ws WorkspaceID, files []DirectFile, ttl time.Duration) ([]DirectPut, error)

	// CommitDirect stages the files of a reservation once all of them are there, and
	// returns their records in order. The files are as ReserveDirect returned them:
	// whoever passes them on to the sender in between makes sure of it. Committing
	// again, at the same time too, returns the same records.
	//
	// A *FileError around ErrNotUploaded or ErrMismatch; ErrReservationExpired,
	// ErrWorkspaceNotFound: nothing was staged. ErrCommitted.
	CommitDirect(ctx context.Context, ws WorkspaceID, files []DirectFile) ([]Record, error)
}

// DirectFile is what is known of a file before it is written.
type DirectFile struct {
	FileID   FileID // made by ReserveDirect
	Filename string // as in Upload
	MIMEType string // as in Upload; it has to be sent with the bytes
	Size     int64  // bytes
	SHA256   Digest // required: it binds the content
}

// DirectPut is the request that writes a file: this content, under this file's
// key, and no other. Whoever has it can send it, so it belongs neither in a log
// nor in an error; printed or logged, it shows the file's id and its end alone.
type DirectPut struct {
	DirectFile
	Method    string
	URL       string
	Header    http.Header // to be sent exactly, Content-Length included
	ExpiresAt time.Time   // when it begins to be refused
}

// String leaves out what would let a reader write.
func (p DirectPut) String() string {
	return p.FileID.String() + " signed until " + p.ExpiresAt.UTC().Format(time.RFC3339)
}

// GoString is String, for %#v.
func (p DirectPut) GoString() string { return p.String() }

// LogValue implements slog.LogValuer with String.
func (p DirectPut) LogValue() slog.Value { return slog.StringValue(p.String()) }
