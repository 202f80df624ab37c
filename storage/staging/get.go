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
	s.Attach(&r)
	return r, nil
}

// Attach gives the record's content its reader and, in an object, its URLs, as
// those of all records from here have them. It takes the record for one of this
// store's.
func (s *Store) Attach(r *storage.Record) {
	ws, f, key := r.WorkspaceID, r.FileID, r.Content.ObjectKey
	r.Content.Opener = func(ctx context.Context, span storage.Range) (io.ReadCloser, error) {
		reader := &contentReader{ctx: ctx, s: s, ws: ws, f: f, key: key, rest: span}
		if err := reader.open(); err != nil {
			return nil, err
		}
		return reader, nil
	}
	if r.Content.Placement == storage.PlacementObject {
		s.attachURL(r)
	}
}

// maxMoves is how often a reader finds its content elsewhere without reading a
// byte of it in between, before it gives up.
const maxMoves = 10

// contentReader reads content where its row says that it lies. Content that is
// moved while it is read is read on from the same byte at its new place: its bytes
// are the same.
type contentReader struct {
	ctx   context.Context
	s     *Store
	ws    storage.WorkspaceID
	f     storage.FileID
	key   string // of the object; "" for inline content
	rest  storage.Range
	cur   io.ReadCloser
	moves int // since the last byte
}

func (r *contentReader) open() error {
	for {
		rc, err := r.s.openAt(r.ctx, r.ws, r.f, r.key, r.rest)
		if err == nil {
			r.cur = rc
			return nil
		}
		if err := r.follow(err); err != nil {
			return err
		}
	}
}

// openAt opens a span of content in an object, or in the row where there is no
// key.
func (s *Store) openAt(ctx context.Context, ws storage.WorkspaceID, f storage.FileID, key string, span storage.Range) (io.ReadCloser, error) {
	if key == "" {
		return &inlineReader{ctx: ctx, rows: s.rows, ws: ws, f: f, rest: span}, nil
	}
	if s.objects == nil {
		return nil, fmt.Errorf("content of %v lies in an object, %s, and no object store is configured", f, key)
	}
	return s.openObject(ctx, key, span)
}

func (r *contentReader) Read(p []byte) (int, error) {
	for {
		n, err := r.cur.Read(p)
		r.rest.Offset += int64(n)
		r.rest.Length -= int64(n)
		if n > 0 {
			r.moves = 0
		}
		if n > 0 || err == nil || errors.Is(err, io.EOF) {
			// A failure that came with bytes comes again on the next read.
			return n, err
		}
		if err := r.follow(err); err != nil {
			return 0, err
		}
		_ = r.cur.Close()
		if err := r.open(); err != nil {
			return 0, err
		}
	}
}

func (r *contentReader) Close() error { return r.cur.Close() }

// follow is asked what to do about content that is not where it was. Where its row
// has it elsewhere, it returns nil and the place is set. Otherwise it tells content
// that is lost or cut short from a row that was swept after it was read, which is
// ordinary. Other errors say nothing of either.
func (r *contentReader) follow(cause error) error {
	if r.key == "" && !errors.Is(cause, storage.ErrNotFound) ||
		r.key != "" && !errors.Is(cause, blob.ErrNotFound) && !errors.Is(cause, blob.ErrRange) && !errors.Is(cause, errEndsEarly) {
		return cause
	}
	now, err := r.s.rows.Stat(r.ctx, r.ws, r.f)
	if err != nil {
		return err
	}
	if r.moves++; r.moves > maxMoves {
		return cause
	}
	if key := now.Content.ObjectKey; key != r.key || key == "" {
		// A row that has its content again has had it elsewhere in between.
		r.key = key
		return nil
	}
	if _, err := r.s.rows.Get(r.ctx, r.ws, r.f); err != nil {
		return err
	}
	return fmt.Errorf("%w: %w", storage.ErrCorrupt, cause)
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
