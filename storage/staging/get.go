package staging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

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
		rc, err := s.openObject(ctx, key, span)
		if errors.Is(err, blob.ErrNotFound) {
			return nil, s.gone(ctx, ws, f, key, err)
		}
		return rc, err
	}
	s.attachURL(r)
}

// gone tells a row that was swept after it was read, which is ordinary, from an
// object that is lost.
func (s *Store) gone(ctx context.Context, ws storage.WorkspaceID, f storage.FileID, key string, cause error) error {
	if _, err := s.rows.Get(ctx, ws, f); err != nil {
		return err
	}
	s.log.LogAttrs(ctx, slog.LevelError, "object of a live upload is missing",
		slog.String("workspace_id", ws.String()), slog.String("file_id", f.String()))
	return fmt.Errorf("open object %s of a live upload: %w", key, cause)
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
			return 0, fmt.Errorf("read inline content of %v at %d: %w", r.f, r.rest.Offset, io.ErrUnexpectedEOF)
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
