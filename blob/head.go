package blob

import (
	"context"
	"crypto/sha256"
	"time"
)

// Header tells about objects without reading them. Stores implement it beside
// Store.
type Header interface {
	// Head describes the object. ErrNotFound.
	Head(ctx context.Context, key string) (Info, error)
}

// Info is what a store knows of one object.
type Info struct {
	Size         int64     // bytes
	LastModified time.Time // by the store's clock
	ContentType  string    // "" where the store keeps none

	// ContentEncoding is what a reader is told that the bytes are encoded with; ""
	// for nothing. Size and SHA256 are of the bytes as they are stored.
	ContentEncoding string

	// SHA256 is the checksum of the whole object, as the store computed or
	// verified it when the object was written; nil where it has none. An object
	// that was put with one always has it.
	SHA256 *[sha256.Size]byte

	// Composite is the checksum of an object made of parts (CompositeSHA256), as
	// the store verified it; "" where it has none. It says nothing of how the whole
	// would be hashed.
	Composite string

	// ETag identifies the content among all that the key ever had. It is opaque,
	// and without quotes.
	ETag string

	// Version is the object's version id; "" in a bucket without versions.
	Version string
}
