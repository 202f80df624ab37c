package staging

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/storage"
)

// completePause is between two looks for an object that is being made of its
// parts.
const completePause = 100 * time.Millisecond

// identity is the encoding of what is not encoded.
const identity = "identity"

// verify compares what was written with what was reserved, FilesInFlight files at
// a time. The first offending file decides the error. Nothing is read through
// before all files are known to be there.
func (s *Store) verify(ctx context.Context, objects directObjects, ws storage.WorkspaceID, files []storage.DirectFile) error {
	infos := make([]blob.Info, len(files))
	check := func(f func(key string, i int) error) error {
		return s.each(len(files), func(i int) error {
			if err := f(s.keys.key(ws, files[i].FileID), i); err != nil {
				return &storage.FileError{Index: i, Filename: files[i].Filename, Err: err}
			}
			return nil
		})
	}
	err := check(func(key string, i int) error {
		info, err := s.written(ctx, objects, key, files[i])
		if err == nil {
			err = compare(key, info, files[i])
		}
		infos[i] = info
		return err
	})
	if err != nil {
		return err
	}
	return check(func(key string, i int) error {
		digest := (*storage.Digest)(infos[i].SHA256)
		if digest == nil {
			read, err := s.digests.of(ctx, stateOf(key, infos[i]), func() (storage.Digest, error) { return s.digestOf(ctx, key, files[i].Size) })
			if err != nil {
				return err
			}
			digest = &read
		}
		if *digest != files[i].SHA256 {
			return fmt.Errorf("object %s has the SHA-256 %v, want %v: %w", key, *digest, files[i].SHA256, storage.ErrMismatch)
		}
		return nil
	})
}

// written is the object that the sender wrote. One that came in parts is made of
// them here, by the first of all commits.
func (s *Store) written(ctx context.Context, objects directObjects, key string, f storage.DirectFile) (blob.Info, error) {
	info, err := objects.Head(ctx, key)
	if errors.Is(err, blob.ErrNotFound) && f.Parts != nil {
		info, err = s.complete(ctx, objects, key, f)
	}
	switch {
	case errors.Is(err, blob.ErrNotFound), errors.Is(err, blob.ErrPartMissing), errors.Is(err, blob.ErrNoUpload):
		return info, fmt.Errorf("%w: %w", storage.ErrNotUploaded, err)
	case err != nil && context.Cause(ctx) != nil:
		return info, fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return info, err
}

// complete makes an object of its parts. Whatever comes of that, another commit
// may have been faster; and while it is at it, some stores know the upload no
// more, or say that it is complete, and do not have the object yet.
func (s *Store) complete(ctx context.Context, objects directObjects, key string, f storage.DirectFile) (blob.Info, error) {
	completed := objects.CompleteParts(ctx, key, f.Parts.UploadID, partsOf(f), blob.CompleteOptions{IfNoneMatch: f.Parts.IfNoneMatch})
	patience := time.NewTimer(s.readPatience)
	defer patience.Stop()
	again := time.NewTicker(completePause)
	defer again.Stop()
	for {
		info, err := objects.Head(ctx, key)
		if !errors.Is(err, blob.ErrNotFound) {
			return info, err
		}
		if completed != nil && !errors.Is(completed, blob.ErrNoUpload) {
			return info, completed
		}
		select {
		case <-again.C:
		case <-patience.C:
			if completed == nil {
				// No ErrNotFound: it was uploaded, and is going to be there.
				completed = fmt.Errorf("object %s is not there %v after it was completed", key, s.readPatience)
			}
			return info, completed
		case <-ctx.Done():
			return info, context.Cause(ctx)
		}
	}
}

// compare looks at all but the SHA-256.
func compare(key string, info blob.Info, f storage.DirectFile) error {
	switch {
	case info.Size != f.Size:
		return fmt.Errorf("object %s has %d bytes, want %d: %w", key, info.Size, f.Size, storage.ErrMismatch)
	case info.ContentEncoding != "" && info.ContentEncoding != identity:
		// Readers by URL would decode it, and get other bytes than these.
		return fmt.Errorf("object %s is said to be encoded with %q: %w", key, info.ContentEncoding, storage.ErrMismatch)
	case f.Parts != nil && info.Composite != "" && info.Composite != blob.CompositeSHA256(partsOf(f)):
		return fmt.Errorf("object %s is not made of the parts that were reserved: %w", key, storage.ErrMismatch)
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
