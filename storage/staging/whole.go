package staging

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/molecule-ai/pendinguploads/storage"
)

// GetBytes is Get with the whole content in memory, for interfaces that hand out
// bytes: one statement where it is inline, one request more where it is not, and
// there the bytes are held to the row's SHA-256. Errors are those of Get and of
// Content.Open.
func (s *Store) GetBytes(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (storage.Record, []byte, error) {
	r, content, err := s.rows.GetContent(ctx, ws, f)
	if err != nil {
		return storage.Record{}, nil, err
	}
	s.Attach(&r)
	if r.Content.Placement == storage.PlacementInline {
		if int64(len(content)) != r.Content.Size {
			return storage.Record{}, nil, fmt.Errorf("%w: %d bytes inline, want %d", storage.ErrCorrupt, len(content), r.Content.Size)
		}
		return r, content, nil
	}
	if content, err = readWhole(ctx, r.Content); err != nil {
		return storage.Record{}, nil, fmt.Errorf("read content of %v: %w", f, err)
	}
	return r, content, nil
}

func readWhole(ctx context.Context, c storage.Content) ([]byte, error) {
	body, err := c.Open(ctx, storage.Range{})
	if err != nil {
		return nil, err
	}
	content := make([]byte, c.Size)
	_, err = io.ReadFull(body, content)
	if err = errors.Join(err, body.Close()); err != nil {
		return nil, err
	}
	if !c.SHA256.IsZero() && sha256.Sum256(content) != c.SHA256 {
		return nil, fmt.Errorf("%w: SHA-256 differs", storage.ErrCorrupt)
	}
	return content, nil
}
