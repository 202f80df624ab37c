package storage

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"time"
)

// Record is one pending upload. Times are the database's clock.
type Record struct {
	WorkspaceID WorkspaceID
	FileID      FileID
	Filename    string
	MIMEType    string // empty when the uploader gave none
	CreatedAt   time.Time
	FetchedAt   *time.Time // latest MarkFetched, nil before the first
	AckedAt     *time.Time // first Ack, nil before it
	ExpiresAt   time.Time
	Content     Content
}

// URI is the address that chat messages cite: platform-pending:WORKSPACE/FILE.
func (r Record) URI() string { return PendingURI(r.WorkspaceID, r.FileID) }

// PendingURI is the address under which chat messages cite a pending upload,
// with both ids in canonical lower case: clients key on the text (contract 7.1).
func PendingURI(ws WorkspaceID, f FileID) string {
	return "platform-pending:" + ws.String() + "/" + f.String()
}

// Digest is a SHA-256 of content.
type Digest [32]byte

// String is the digest in lower-case hex, 64 characters.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// ParseDigest reads what String writes, in either case.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != hex.EncodedLen(len(d)) {
		return Digest{}, fmt.Errorf("digest of %d characters, want %d", len(s), hex.EncodedLen(len(d)))
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, fmt.Errorf("digest: %w", err)
	}
	return d, nil
}

// IsZero reports that the digest is unknown: content staged by software that
// did not record one.
func (d Digest) IsZero() bool { return d == Digest{} }

// Range is a span of content in bytes. The zero value is the whole content.
type Range struct {
	Offset int64 // from the start, at least 0
	Length int64 // 0 means up to the end
}

// Resolve cuts the range to content of the given size. It returns ErrRange when
// the offset is negative or beyond the last byte, or the length is negative.
func (r Range) Resolve(size int64) (Range, error) {
	if r.Offset < 0 || r.Length < 0 || (r.Offset >= size && r.Offset > 0) {
		return Range{}, fmt.Errorf("%w: bytes %d+%d of %d", ErrRange, r.Offset, r.Length, size)
	}
	rest := size - r.Offset
	if r.Length == 0 || r.Length > rest {
		r.Length = rest
	}
	return r, nil
}

// Placement says where content lies.
type Placement string

const (
	// PlacementInline is content in the row itself.
	PlacementInline Placement = "inline"
	// PlacementObject is content in an S3 object that the row names.
	PlacementObject Placement = "object"
)

// Content is the bytes of a pending upload: what is known of them, and how to
// read them. Size and SHA256 are those of the committed row and never change
// while it exists, so what was compared with one record holds for all.
type Content struct {
	Size      int64  // bytes
	SHA256    Digest // computed while the bytes came in
	Placement Placement
	ObjectKey string // set for PlacementObject

	// Opener reads the bytes. Set by the Storage that made the record.
	Opener func(ctx context.Context, r Range) (io.ReadCloser, error)

	// Signer makes URLs of the bytes; nil where there are none. Set like Opener.
	Signer func(ctx context.Context, opts URLOptions) (SignedURL, error)
}

// Open reads the content, or the given range of it, from its start; the caller
// closes. It returns ErrRange for a range outside the content, ErrNotFound when
// the upload is gone, and ErrCorrupt when it is there and its bytes are not. The
// reader returns the same two for what it notices only later, and never a short
// body with io.EOF. ctx must outlive the reader.
func (c Content) Open(ctx context.Context, r Range) (io.ReadCloser, error) {
	if c.Opener == nil {
		return nil, ErrNotFound
	}
	r, err := r.Resolve(c.Size)
	if err != nil {
		return nil, err
	}
	return c.Opener(ctx, r)
}
