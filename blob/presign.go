package blob

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"time"
)

// MaxPresignTTL is the longest life of a presigned URL: S3 allows seven days.
const MaxPresignTTL = 7 * 24 * time.Hour

// Presigner makes requests that somebody without credentials can send to the
// store himself. Stores that are reached over HTTP implement it beside Store.
// Nothing is asked of the store: the object need not exist.
type Presigner interface {
	// PresignGet lets its holder read the object, whole or by Range.
	PresignGet(ctx context.Context, key string, opts PresignGetOptions) (SignedRequest, error)

	// PresignPut lets its holder write the object, once or more often, but only
	// under this key, with this size and this content: the store refuses every
	// other one. That holds as long as he adds no header; see DirectProber.
	PresignPut(ctx context.Context, key string, opts PresignPutOptions) (SignedRequest, error)
}

// PresignGetOptions say how the object is answered. Empty fields leave the answer
// to the store, which is what the object was put with; values are not checked, so
// callers build a Content-Disposition that is safe for any name.
type PresignGetOptions struct {
	TTL                time.Duration // one second to MaxPresignTTL; required
	ContentType        string
	ContentDisposition string
	CacheControl       string // for example "private, no-store"
}

// PresignPutOptions say what may be written.
type PresignPutOptions struct {
	TTL    time.Duration     // one second to MaxPresignTTL; required
	Size   int64             // of the content in bytes, 0 or more
	SHA256 [sha256.Size]byte // of the content; required

	// ContentType has to be sent with the content; empty for the store's default.
	// It does not bind an object of no bytes.
	ContentType string

	// ContentEncoding has to be sent with the content, and is answered with it.
	// Empty leaves it to whoever sends: readers by URL may then decode what he says
	// is encoded, and get other bytes than those of the SHA-256.
	ContentEncoding string

	// IfNoneMatch has the store refuse to replace an object that exists (412).
	// Stores without conditional writes may ignore it or refuse the request.
	IfNoneMatch bool
}

// SignedRequest is a request to be sent as it is. Whoever has it can do what it
// allows, so it belongs neither in a log nor in an error; printed or logged, it
// shows its method and its end alone.
type SignedRequest struct {
	Method string
	URL    string

	// Header has to be sent with exactly these values, Content-Length included:
	// they are part of the signature. It has no Host, which is the URL's.
	Header http.Header

	// Expires is when the store begins to refuse it: TTL after it was made, or
	// earlier when the credentials that signed it end.
	Expires time.Time
}

// String leaves out what would let a reader send the request.
func (r SignedRequest) String() string {
	return r.Method + " presigned until " + r.Expires.UTC().Format(time.RFC3339)
}

// GoString is String, for %#v.
func (r SignedRequest) GoString() string { return r.String() }

// LogValue implements slog.LogValuer with String.
func (r SignedRequest) LogValue() slog.Value { return slog.StringValue(r.String()) }
