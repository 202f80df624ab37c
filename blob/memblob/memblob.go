// Package memblob is a blob.Store in memory, for unit tests of what stands on
// one. It passes the same suite as the real one, and tells about objects
// (blob.Header). It is no blob.Presigner: nobody could send the requests.
package memblob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/molecule-ai/pendinguploads/blob"
)

// Store implements blob.Store over a map. It has no multipart uploads, so
// ListUnfinished yields nothing.
type Store struct {
	mu      sync.RWMutex
	objects map[string]object
}

var (
	_ blob.Store  = (*Store)(nil)
	_ blob.Header = (*Store)(nil)
)

type object struct {
	content     []byte // never written to once it is in the map
	contentType string
	modified    time.Time
}

// New returns an empty store.
func New() *Store {
	return &Store{objects: make(map[string]object)}
}

// SetModified dates an object, so that a test need not wait until it is old.
// blob.ErrNotFound.
func (s *Store) SetModified(key string, t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[key]
	if !ok {
		return fmt.Errorf("set modified of %s: %w", key, blob.ErrNotFound)
	}
	o.modified = t
	s.objects[key] = o
	return nil
}

// ContentType returns what the object was put with. blob.ErrNotFound.
func (s *Store) ContentType(key string) (string, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	o, ok := s.objects[key]
	if !ok {
		return "", fmt.Errorf("content type of %s: %w", key, blob.ErrNotFound)
	}
	return o.contentType, nil
}

// Put implements blob.Store.
func (s *Store) Put(ctx context.Context, key string, body io.Reader, opts blob.PutOptions) error {
	var content bytes.Buffer
	_, err := content.ReadFrom(&contextReader{ctx: ctx, r: body})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("put object %s: %w", key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[key] = object{content: content.Bytes(), contentType: opts.ContentType, modified: time.Now()}
	return nil
}

// Open implements blob.Store.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open object %s: %w", key, err)
	}
	if offset < 0 || length < 0 {
		return nil, fmt.Errorf("open object %s: negative offset %d or length %d: %w", key, offset, length, blob.ErrRange)
	}
	s.mu.RLock()
	o, ok := s.objects[key]
	s.mu.RUnlock()
	if !ok {
		return nil, fmt.Errorf("open object %s: %w", key, blob.ErrNotFound)
	}
	size := int64(len(o.content))
	if offset >= size && (offset > 0 || length > 0) {
		return nil, fmt.Errorf("open object %s from %d of %d bytes: %w", key, offset, size, blob.ErrRange)
	}
	end := size
	if length > 0 && length < size-offset {
		end = offset + length
	}
	return io.NopCloser(&contextReader{ctx: ctx, r: bytes.NewReader(o.content[offset:end])}), nil
}

// Head implements blob.Header. The ETag is the SHA-256 in hexadecimal.
func (s *Store) Head(ctx context.Context, key string) (blob.Info, error) {
	if err := ctx.Err(); err != nil {
		return blob.Info{}, fmt.Errorf("head object %s: %w", key, err)
	}
	s.mu.RLock()
	o, ok := s.objects[key]
	s.mu.RUnlock()
	if !ok {
		return blob.Info{}, fmt.Errorf("head object %s: %w", key, blob.ErrNotFound)
	}
	sum := sha256.Sum256(o.content)
	return blob.Info{
		Size:         int64(len(o.content)),
		LastModified: o.modified,
		ContentType:  o.contentType,
		SHA256:       &sum,
		ETag:         hex.EncodeToString(sum[:]),
	}, nil
}

// Delete implements blob.Store.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("delete %d objects: %w", len(keys), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		delete(s.objects, k)
	}
	return nil
}

// List implements blob.Store. It yields what was there when it began.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[blob.Object, error] {
	return func(yield func(blob.Object, error) bool) {
		s.mu.RLock()
		objects := maps.Clone(s.objects)
		s.mu.RUnlock()
		for _, key := range slices.Sorted(maps.Keys(objects)) {
			if !strings.HasPrefix(key, prefix) {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield(blob.Object{}, fmt.Errorf("list objects under %q: %w", prefix, err))
				return
			}
			o := objects[key]
			if !yield(blob.Object{Key: key, Size: int64(len(o.content)), LastModified: o.modified}, nil) {
				return
			}
		}
	}
}

// ListUnfinished implements blob.Store. There are none.
func (s *Store) ListUnfinished(context.Context, string) iter.Seq2[blob.Unfinished, error] {
	return func(func(blob.Unfinished, error) bool) {}
}

// AbortUnfinished implements blob.Store. There is nothing to drop.
func (s *Store) AbortUnfinished(context.Context, blob.Unfinished) error { return nil }

// contextReader ends when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
