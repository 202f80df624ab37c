package blob

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
)

const (
	// MinPartBytes is the least that S3 takes as a part which is not the last.
	MinPartBytes = 5 << 20

	// MaxParts is the most parts that S3 makes an object of.
	MaxParts = 10000
)

var (
	// ErrPartMissing: an object cannot be made of its parts, because one was not
	// sent.
	ErrPartMissing = errors.New("part was not sent")

	// ErrNoUpload: there is no such upload. It was aborted or completed, or is being
	// completed.
	ErrNoUpload = errors.New("no such upload")
)

// PartPresigner lets somebody without credentials write an object in parts. Each
// part has a request of its own; nothing is visible before CompleteParts, which
// only the owner of the store can call. Stores implement it beside Presigner.
type PartPresigner interface {
	// CreateParts begins an object that is going to be sent in parts, none of which
	// can say how it is encoded. It is among those of ListUnfinished until it is
	// completed or aborted.
	CreateParts(ctx context.Context, key string, opts PutOptions) (uploadID string, err error)

	// PresignPart lets its holder send one part, once or more often, with this size
	// and this content: the store refuses every other one. That holds as long as
	// he adds no header; see DirectProber.
	PresignPart(ctx context.Context, key, uploadID string, opts PresignPartOptions) (SignedRequest, error)

	// CompleteParts makes the object of its parts, which have to be these, in this
	// order. ErrPartMissing, ErrNoUpload. Of calls at the same time one makes it, and
	// the others may return before it is there, with an error or without.
	CompleteParts(ctx context.Context, key, uploadID string, parts []Part, opts CompleteOptions) error
}

// Part is one part of an object. Parts are numbered from 1 on.
type Part struct {
	Size   int64             // bytes
	SHA256 [sha256.Size]byte // of the part
}

// PresignPartOptions say what may be sent.
type PresignPartOptions struct {
	TTL    time.Duration // one second to MaxPresignTTL; required
	Number int           // 1 to MaxParts
	Part
}

// CompleteOptions say how an object is made of its parts.
type CompleteOptions struct {
	// IfNoneMatch has the store refuse to replace an object that exists.
	IfNoneMatch bool
}

// CompositeSHA256 is what a store tells of an object made of parts: the SHA-256 of
// the parts' SHA-256s and the number of parts.
func CompositeSHA256(parts []Part) string {
	sum := sha256.New()
	for _, p := range parts {
		sum.Write(p.SHA256[:])
	}
	return fmt.Sprintf("%s-%d", base64.StdEncoding.EncodeToString(sum.Sum(nil)), len(parts))
}
