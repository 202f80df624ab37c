package staging

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/storage"
)

// identity is the encoding of what is not encoded.
const identity = "identity"

// verify compares what was written with what was reserved, FilesInFlight files at
// a time. The first offending file decides the error.
func (s *Store) verify(ctx context.Context, objects directObjects, ws storage.WorkspaceID, files []storage.DirectFile) error {
	found := make([]error, len(files))
	var checks sync.WaitGroup
	slots := make(chan struct{}, s.filesInFlight)
	for i, f := range files {
		slots <- struct{}{}
		checks.Go(func() {
			defer func() { <-slots }()
			found[i] = s.verifyOne(ctx, objects, s.keys.key(ws, f.FileID), f)
		})
	}
	checks.Wait()
	for i, err := range found {
		if err != nil {
			return &storage.FileError{Index: i, Filename: files[i].Filename, Err: err}
		}
	}
	return nil
}

func (s *Store) verifyOne(ctx context.Context, objects directObjects, key string, f storage.DirectFile) error {
	info, err := objects.Head(ctx, key)
	switch {
	case errors.Is(err, blob.ErrNotFound):
		return fmt.Errorf("%w: %w", storage.ErrNotUploaded, err)
	case err != nil && context.Cause(ctx) != nil:
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	case err != nil:
		return err
	case info.Size != f.Size:
		return fmt.Errorf("object %s has %d bytes, want %d: %w", key, info.Size, f.Size, storage.ErrMismatch)
	case info.ContentEncoding != "" && info.ContentEncoding != identity:
		// Readers by URL would decode it, and get other bytes than these.
		return fmt.Errorf("object %s is said to be encoded with %q: %w", key, info.ContentEncoding, storage.ErrMismatch)
	}
	var digest storage.Digest
	if info.SHA256 != nil {
		digest = *info.SHA256
	} else if digest, err = s.digestOf(ctx, key, f.Size); err != nil {
		return err
	}
	if digest != f.SHA256 {
		return fmt.Errorf("object %s has the SHA-256 %v, want %v: %w", key, digest, f.SHA256, storage.ErrMismatch)
	}
	return nil
}

// digestOf reads an object whose store keeps no SHA-256.
func (s *Store) digestOf(ctx context.Context, key string, size int64) (d storage.Digest, err error) {
	r, err := s.openObject(ctx, key, storage.Range{Length: size})
	if errors.Is(err, blob.ErrNotFound) {
		return d, fmt.Errorf("%w: %w", storage.ErrNotUploaded, err)
	}
	if err != nil {
		return d, err
	}
	defer func() { _ = r.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, r); err != nil {
		return d, fmt.Errorf("read object %s: %w", key, err)
	}
	sum.Sum(d[:0])
	return d, nil
}
