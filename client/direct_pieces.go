package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/storage"
)

// piece is what one request sends: a file, or a part of one.
type piece struct {
	file         File
	offset, size int64 // bytes
	part         bool
	to           wire.DirectCall
}

// piecesOf are the requests of a reservation with what they send.
func piecesOf(files []File, reserved []wire.DirectFile) ([]piece, error) {
	var pieces []piece
	for i, f := range files {
		to := reserved[i]
		if len(to.Parts) == 0 {
			if to.DirectCall == nil {
				return nil, fmt.Errorf("file %q: %w", f.Name, errNoTarget)
			}
			pieces = append(pieces, piece{file: f, size: f.Size, to: *to.DirectCall})
			continue
		}
		var offset int64
		for _, p := range to.Parts {
			pieces = append(pieces, piece{file: f, offset: offset, size: p.Size, part: true, to: p.DirectCall})
			offset += p.Size
		}
		if offset != f.Size {
			return nil, fmt.Errorf("file %q: the answer lists parts of %d bytes, want %d", f.Name, offset, f.Size)
		}
	}
	return pieces, nil
}

// open opens the file where the piece begins.
func (p piece) open(ctx context.Context) (io.ReadCloser, error) {
	rc, err := p.file.Open()
	if err != nil || p.offset == 0 {
		return rc, err
	}
	if seeker, ok := rc.(io.Seeker); ok {
		_, err = seeker.Seek(p.offset, io.SeekStart)
	} else {
		_, err = io.CopyN(io.Discard, &contextReader{ctx, rc}, p.offset)
	}
	if err != nil {
		_ = rc.Close()
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: it had %d bytes", ErrFileChanged, p.file.Size)
		}
		return nil, err
	}
	return rc, nil
}

// hashFile reads a file through, and says what is asked of the service for it.
func hashFile(ctx context.Context, f File) (wire.DirectRequestFile, error) {
	asked := wire.DirectRequestFile{Name: f.Name, Size: f.Size, MIMEType: f.MIMEType}
	switch {
	case f.Open == nil:
		return asked, errors.New("field Open is required")
	case f.Size < 0:
		return asked, errors.New("its size must be known")
	case f.Size == 0:
		return asked, ErrEmptyFile
	}
	rc, err := f.Open()
	if err != nil {
		return asked, err
	}
	defer func() { _ = rc.Close() }()
	whole := sha256.New()
	parts := &partHash{part: sha256.New()}
	to := io.Writer(whole)
	if f.Size > storage.DirectPartsFrom {
		to = io.MultiWriter(whole, parts)
	}
	n, err := io.Copy(to, &contextReader{ctx, rc})
	switch {
	case err != nil:
		return asked, fmt.Errorf("read file: %w", err)
	case n != f.Size:
		return asked, fmt.Errorf("%w: it had %d bytes", ErrFileChanged, f.Size)
	}
	asked.SHA256 = hex.EncodeToString(whole.Sum(nil))
	if asked.PartSHA256 = parts.done(); len(asked.PartSHA256) > 0 {
		asked.PartSize = storage.DirectPartBytes
	}
	return asked, nil
}

// partHash hashes what is written to it part by part.
type partHash struct {
	part hash.Hash
	n    int64 // bytes in it
	sums []string
}

func (h *partHash) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		take := min(int64(len(rest)), storage.DirectPartBytes-h.n)
		h.part.Write(rest[:take])
		h.n += take
		if rest = rest[take:]; h.n == storage.DirectPartBytes {
			h.end()
		}
	}
	return len(p), nil
}

func (h *partHash) end() {
	h.sums = append(h.sums, hex.EncodeToString(h.part.Sum(nil)))
	h.part.Reset()
	h.n = 0
}

func (h *partHash) done() []string {
	if h.n > 0 {
		h.end()
	}
	return h.sums
}
