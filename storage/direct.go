package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

const (
	// DirectPartsFrom is the largest file that is always written by one request.
	// Sending 64 MiB again costs less than a minute at 10 Mbit/s, and what is larger
	// is worth the calls that parts need.
	DirectPartsFrom = 64 << 20

	// DirectPartBytes is the size of parts where the sender names none: what it
	// costs to send one again is small, and 100 MiB are seven of them.
	DirectPartBytes = 16 << 20

	// MinDirectPartBytes is the least size of parts: S3's rule for all but the last.
	MinDirectPartBytes = 5 << 20
)

// Sentinels of direct uploads.
var (
	// ErrNoDirect: content does not go to an object store that others can write to.
	ErrNoDirect = errors.New("no direct upload to this store")

	// ErrNotUploaded: a file that is to be committed has not been written.
	ErrNotUploaded = errors.New("file was not uploaded")

	// ErrInvalidParts: the parts of a file that is to be written are not that file.
	ErrInvalidParts = errors.New("invalid parts")

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
	// that writes it, or the requests that write its parts: where the file names
	// them, is larger than DirectPartsFrom, and the store lets parts be given away.
	// Nothing is visible: what is written and never committed is an orphan, for
	// SweepOrphans, and so is the upload that parts belong to, the one thing that is
	// made by this call. A reservation may be used for ttl, or for less where the
	// store says so.
	//
	// ErrNoDirect, ErrTooManyFiles, or a *FileError around ErrEmpty, ErrTooLarge,
	// ErrInvalidFilename or ErrInvalidParts.
	ReserveDirect(ctx context.Context, ws WorkspaceID, files []DirectFile, ttl time.Duration) ([]DirectPut, error)

	// CommitDirect stages the files of a reservation once all of them are there, and
	// returns their records in order. The files are as ReserveDirect returned them:
	// whoever passes them on to the sender in between makes sure of it. Committing
	// again, at the same time too, returns the same records.
	//
	// A *FileError around ErrNotUploaded or ErrMismatch; ErrReservationExpired,
	// ErrQuota, ErrWorkspaceNotFound: nothing was staged. ErrCommitted.
	CommitDirect(ctx context.Context, ws WorkspaceID, files []DirectFile) ([]Record, error)
}

// DirectFile is what is known of a file before it is written.
type DirectFile struct {
	FileID   FileID // made by ReserveDirect
	Filename string // as in Upload
	MIMEType string // as in Upload; it has to be sent with the bytes
	Size     int64  // bytes
	SHA256   Digest // required: it binds the content

	// Parts lets the file be sent in parts, and says how. As ReserveDirect returns
	// it, it is nil for a file that is sent in one request.
	Parts *DirectParts
}

// DirectParts are the parts of a file.
type DirectParts struct {
	Size   int64    // bytes of each part but the last: MinDirectPartBytes or more
	SHA256 []Digest // of each part, in order: they bind the content

	UploadID    string // made by ReserveDirect
	IfNoneMatch bool   // set by ReserveDirect: the store keeps objects from being replaced
}

// Span is where part i, counted from 0, lies in a file of the given size.
func (p DirectParts) Span(i int, size int64) (offset, length int64) {
	offset = int64(i) * p.Size
	return offset, min(p.Size, size-offset)
}

// Validate returns ErrInvalidParts unless these are the parts of a file of the
// given size.
func (p DirectParts) Validate(size int64) error {
	if p.Size < MinDirectPartBytes {
		return fmt.Errorf("%w: parts of %d bytes, want %d or more", ErrInvalidParts, p.Size, MinDirectPartBytes)
	}
	if want := (size-1)/p.Size + 1; int64(len(p.SHA256)) != want {
		return fmt.Errorf("%w: %d digests of parts of %d bytes, want %d", ErrInvalidParts, len(p.SHA256), p.Size, want)
	}
	for i, d := range p.SHA256 {
		if d.IsZero() {
			return fmt.Errorf("%w: part %d has no SHA-256", ErrInvalidParts, i+1)
		}
	}
	return nil
}

// DirectPut is the request that writes a file: this content, under this file's
// key, and no other; where the file has Parts, the requests that write them.
// Whoever has it can send it, so it belongs neither in a log nor in an error;
// printed or logged, it shows the file's id and its end alone.
type DirectPut struct {
	DirectFile
	DirectRequest                 // the zero value for a file in parts
	PartRequests  []DirectRequest // in order
	ExpiresAt     time.Time       // when they begin to be refused
}

// DirectRequest is one request of a DirectPut, and as secret.
type DirectRequest struct {
	Method string
	URL    string
	Header http.Header // to be sent exactly, Content-Length included
}

// String leaves out what would let a reader write.
func (r DirectRequest) String() string { return r.Method + " signed" }

// GoString is String, for %#v.
func (r DirectRequest) GoString() string { return r.String() }

// LogValue implements slog.LogValuer with String.
func (r DirectRequest) LogValue() slog.Value { return slog.StringValue(r.String()) }

// String leaves out what would let a reader write.
func (p DirectPut) String() string {
	return p.FileID.String() + " signed until " + p.ExpiresAt.UTC().Format(time.RFC3339)
}

// GoString is String, for %#v.
func (p DirectPut) GoString() string { return p.String() }

// LogValue implements slog.LogValuer with String.
func (p DirectPut) LogValue() slog.Value { return slog.StringValue(p.String()) }
