package storage

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// URLOptions say how long a URL of content works and what its answer looks like.
// Values are not checked, so callers build a Content-Disposition that is safe for
// any name. Keep them to ASCII: stores refuse headers that they cannot represent.
type URLOptions struct {
	TTL                time.Duration // one second or more; cut to what is left of the row's life
	ContentType        string
	ContentDisposition string
}

// SignedURL reads content, by GET, without any other credential. Whoever has it
// can read, so it belongs neither in a log nor in an error; printed or logged, it
// shows its end alone.
type SignedURL struct {
	URL       string
	ExpiresAt time.Time   // when it begins to be refused, never after the row's ExpiresAt
	Header    http.Header // to be sent with the request, exactly; mostly empty
}

// String leaves out what would let a reader fetch.
func (u SignedURL) String() string { return "signed until " + u.ExpiresAt.UTC().Format(time.RFC3339) }

// GoString is String, for %#v.
func (u SignedURL) GoString() string { return u.String() }

// LogValue implements slog.LogValuer with String.
func (u SignedURL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// URL makes a URL under which the object store itself answers the content, whole
// or by Range, with the given headers and a Cache-Control of private, no-store.
// It works whatever becomes of the row: also after an ack, until it expires or
// the object is swept. ErrNoURL where content is inline or the store cannot sign;
// ErrNotFound where less than a second of the row's life is left.
func (c Content) URL(ctx context.Context, opts URLOptions) (SignedURL, error) {
	if c.Signer == nil {
		return SignedURL{}, ErrNoURL
	}
	return c.Signer(ctx, opts)
}
