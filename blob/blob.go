// Package blob defines the object store that pending uploads' content lies in:
// a flat map from keys to immutable bytes. s3blob is the real one, memblob the
// one for unit tests; blobtest holds both to the contract written here.
package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"iter"
	"time"
)

var (
	// ErrNotFound: no object has that key.
	ErrNotFound = errors.New("object not found")

	// ErrRange: the range starts at or beyond the object's end.
	ErrRange = errors.New("range not satisfiable")

	// ErrBusy: the memory budget stayed exhausted for the whole wait.
	ErrBusy = errors.New("part buffers exhausted")

	// ErrBucketNotFound: the bucket does not exist and may not be created.
	ErrBucketNotFound = errors.New("bucket not found")

	// ErrUnsupported: the store does not know this operation at all.
	ErrUnsupported = errors.New("not supported by the object store")

	// ErrClockSkew: the store refuses requests because its clock and the one here
	// are too far apart.
	ErrClockSkew = errors.New("the clock here and the object store's differ too much")
)

// Store keeps objects. Implementations are safe for concurrent use. Keys are
// 1 to 1024 bytes of UTF-8 without a leading slash; callers guarantee that no
// two Puts of the same key run at once, unless all of them are Shared.
type Store interface {
	// Put stores everything body yields under key and returns once the object
	// is durable and complete. Size need not be known beforehand. When body
	// fails, ctx ends or the store refuses, no object is visible under key and
	// no unfinished upload stays behind (an older object of that key may be gone
	// too); the error wraps the body's own error, ctx's, or ErrBusy when no
	// buffer could be had. Only io.EOF ends body; io.ErrUnexpectedEOF is an
	// error. Body is read from one goroutine and never after Put returns. A Read
	// that blocks holds Put up even when ctx ends: whoever made body unblocks it.
	Put(ctx context.Context, key string, body io.Reader, opts PutOptions) error

	// Open reads length bytes of the object from offset on; length 0 means up
	// to the end. A range that goes beyond the end is cut. The caller closes the
	// reader and keeps ctx alive until then. ErrNotFound, ErrRange (also for a
	// negative offset or length). A transfer cut short ends in an error other than
	// io.EOF.
	Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)

	// Delete removes the objects. Keys that do not exist are no error, so
	// deleting twice is fine. Any number of keys; when some cannot be deleted
	// the error names the first, and the others are gone all the same.
	Delete(ctx context.Context, keys ...string) error

	// List yields every object whose key starts with prefix, in the order of
	// the keys' bytes. An error ends the sequence.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]

	// ListUnfinished yields the multipart uploads under prefix that were neither
	// completed nor aborted. Stores without such a thing yield nothing.
	ListUnfinished(ctx context.Context, prefix string) iter.Seq2[Unfinished, error]

	// AbortUnfinished drops one of them with its parts. One that is gone is no
	// error.
	AbortUnfinished(ctx context.Context, u Unfinished) error
}

// PutOptions describe an object.
type PutOptions struct {
	ContentType string // stored with the object; empty for the store's default

	// Shared says that others may put the same bytes under the same key, now or
	// before. A Put that fails then takes nothing away that is under key: it may be
	// theirs. What is under key stays whole at all times.
	Shared bool

	// SHA256 has the store hold what arrives to its SHA-256 and keep that, where it
	// knows such a thing: Info.SHA256 of an object that is written in one request,
	// Info.Composite of one that is written in parts.
	SHA256 bool

	// Digest, where it is set, is the SHA-256 of all that body has yielded, which a
	// store that sends one need not compute again. Put calls it once body has ended, on
	// the goroutine that read it. A wrong one is refused or not noticed; it never
	// becomes the SHA-256 that the store keeps.
	Digest func() [sha256.Size]byte
}

// Object is one entry of a listing.
type Object struct {
	Key          string
	Size         int64     // bytes
	LastModified time.Time // by the store's clock
}

// Unfinished is a multipart upload that somebody began and nobody ended.
type Unfinished struct {
	Key       string
	UploadID  string
	Initiated time.Time // by the store's clock
}
