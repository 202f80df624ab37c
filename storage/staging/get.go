package staging

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/storage"
)

// inlineChunk is how much of an inline row is read at a time: the row's content
// is never whole in memory. The column is stored uncompressed, so PostgreSQL
// reads only the part asked for.
const inlineChunk = storage.MiB

// Get implements storage.Storage.
func (s *Store) Get(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (storage.Record, error) {
	r, err := s.rows.Get(ctx, ws, f)
	if err != nil {
		return storage.Record{}, err
	}
	s.attach(&r)
	return r, nil
}

// attach gives the record's content its reader and, in an object, its URLs.
func (s *Store) attach(r *storage.Record) {
	ws, f := r.WorkspaceID, r.FileID
	if r.Content.Placement == storage.PlacementInline {
		r.Content.Opener = func(ctx context.Context, span storage.Range) (io.ReadCloser, error) {
			return &inlineReader{ctx: ctx, rows: s.rows, ws: ws, f: f, rest: span}, nil
		}
		return
	}
	key := r.Content.ObjectKey
	r.Content.Opener = func(ctx context.Context, span storage.Range) (io.ReadCloser, error) {
		if s.objects == nil {
			return nil, fmt.Errorf("open object %s: no object store is configured", key)
		}
		judge := func(err error) error { return s.judge(ctx, ws, f, err) }
		rc, err := s.openObject(ctx, key, span)
		if err != nil {
			return nil, judge(err)
		}
		return judgedReader{rc, judge}, nil
	}
	s.attachURL(r)
}

// judge tells an object that is lost or cut short from a row that was swept after
// it was read, which is ordinary. Other errors say nothing of either.
func (s *Store) judge(ctx context.Context, ws storage.WorkspaceID, f storage.FileID, cause error) error {
	if !errors.Is(cause, blob.ErrNotFound) && !errors.Is(cause, blob.ErrRange) && !errors.Is(cause, errEndsEarly) {
		return cause
	}
	if _, err := s.rows.Get(ctx, ws, f); err != nil {
		return err
	}
	return fmt.Errorf("%w: %w", storage.ErrCorrupt, cause)
}

// judgedReader passes what ends a transfer to judge.
type judgedReader struct {
	io.ReadCloser
	judge func(error) error
}

func (r judgedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.judge(err)
	}
	return n, err
}

// inlineReader reads a row's content in chunks.
type inlineReader struct {
	ctx   context.Context
	rows  Rows
	ws    storage.WorkspaceID
	f     storage.FileID
	rest  storage.Range
	chunk []byte
}

func (r *inlineReader) Read(p []byte) (int, error) {
	if len(r.chunk) == 0 {
		if r.rest.Length == 0 {
			return 0, io.EOF
		}
		want := min(r.rest.Length, inlineChunk)
		chunk, err := r.rows.ReadInline(r.ctx, r.ws, r.f, r.rest.Offset, want)
		if err != nil {
			return 0, fmt.Errorf("read inline content of %v at %d: %w", r.f, r.rest.Offset, err)
		}
		if int64(len(chunk)) != want {
			return 0, fmt.Errorf("%w: inline content of %v ends at %d", storage.ErrCorrupt, r.f, r.rest.Offset+int64(len(chunk)))
		}
		r.chunk = chunk
		r.rest.Offset += want
		r.rest.Length -= want
	}
	n := copy(p, r.chunk)
	r.chunk = r.chunk[n:]
	return n, nil
}

func (r *inlineReader) Close() error { return nil }
