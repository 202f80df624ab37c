package offload

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// rowBody reads a row's content, a chunk at a time, and hashes it. Content that is
// not what the row says ends in storage.ErrCorrupt and not in io.EOF, so that it
// never becomes an object; storage.ErrNotFound is content that is inline no more.
type rowBody struct {
	ctx     context.Context
	uploads *metadata.Uploads
	u       metadata.Movable
	hash    hash.Hash
	parts   *partHash // nil where the object is written in one request
	read    int64
	last    bool // the chunk at hand is the last one
	chunk   []byte
}

func (b *rowBody) Read(p []byte) (int, error) {
	if len(b.chunk) == 0 {
		if !b.last {
			if err := b.next(); err != nil {
				return 0, err
			}
		}
		if len(b.chunk) == 0 {
			return 0, b.end()
		}
	}
	n := copy(p, b.chunk)
	b.chunk = b.chunk[n:]
	return n, nil
}

func (b *rowBody) next() error {
	// One byte more than there should be, so that the last chunk is known to be it.
	want := min(chunk, b.u.Size-b.read) + 1
	content := b.u.Content // all of it, when it came with the row
	if content == nil {
		var err error
		if content, err = b.uploads.ReadInline(b.ctx, b.u.Workspace, b.u.File, b.read, want); err != nil {
			return fmt.Errorf("read inline content at %d: %w", b.read, err)
		}
	}
	b.chunk, b.last = content, b.u.Content != nil || int64(len(content)) < want
	b.read += int64(len(content))
	if b.read > b.u.Size {
		return fmt.Errorf("%w: inline content has more than the %d bytes of its row", storage.ErrCorrupt, b.u.Size)
	}
	b.hash.Write(content)
	b.parts.write(content)
	return nil
}

// end is the verdict on all of the content.
func (b *rowBody) end() error {
	switch {
	case b.read != b.u.Size:
		return fmt.Errorf("%w: inline content has %d bytes, its row says %d", storage.ErrCorrupt, b.read, b.u.Size)
	case !b.u.SHA256.IsZero() && b.digest() != b.u.SHA256:
		return fmt.Errorf("%w: inline content has another SHA-256 than its row", storage.ErrCorrupt)
	}
	return io.EOF
}

func (b *rowBody) digest() (d storage.Digest) {
	b.hash.Sum(d[:0])
	return d
}

// partHash computes what a store tells of an object that is written in parts.
type partHash struct {
	size  int64
	parts []blob.Part
	hash  hash.Hash
	room  int64 // in the part at hand
}

func newPartHash(size int) *partHash {
	return &partHash{size: int64(size), hash: sha256.New(), room: int64(size)}
}

func (p *partHash) write(b []byte) {
	for p != nil && len(b) > 0 {
		n := min(int64(len(b)), p.room)
		p.hash.Write(b[:n])
		b, p.room = b[n:], p.room-n
		if p.room == 0 {
			p.endPart()
		}
	}
}

func (p *partHash) endPart() {
	part := blob.Part{Size: p.size - p.room}
	p.hash.Sum(part.SHA256[:0])
	p.parts = append(p.parts, part)
	p.hash.Reset()
	p.room = p.size
}

// composite is "" for an object that is not written in parts. Nothing may be
// written after it.
func (p *partHash) composite() string {
	if p == nil {
		return ""
	}
	if p.room < p.size {
		p.endPart()
	}
	return blob.CompositeSHA256(p.parts)
}
