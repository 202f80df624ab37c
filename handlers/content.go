package handlers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/molecule-ai/pendinguploads/storage"
)

const (
	// headBytes is how much content is read before the reply begins.
	headBytes = 64 << 10
	// copyBytes is how much content is held at a time.
	copyBytes = 256 << 10
	// stampTimeout bounds a note on a row that content was fetched or found to be
	// wrong: small replies reach the client only after it.
	stampTimeout = 2 * time.Second
)

// content delivers a pending upload: its bytes, or where they are (delivery.go).
func (s *Server) content(w http.ResponseWriter, r *http.Request) error {
	ws, f, err := pathFile(r)
	if err != nil {
		return err
	}
	how, err := s.deliveryOf(r)
	if err != nil {
		return err
	}
	switch how {
	case byURL:
		return s.contentURL(w, r, ws, f)
	case byRedirect:
		return s.redirectContent(w, r, ws, f)
	}
	return s.proxyContent(w, r, ws, f, how)
}

// proxyContent serves the bytes: all of them with 200, or an error. Who asks for
// less by a range or a precondition gets less (selectContent). What fails after
// the reply has begun cuts the connection, so that a short or a wrong body never
// passes for a whole one.
func (s *Server) proxyContent(w http.ResponseWriter, r *http.Request, ws storage.WorkspaceID, f storage.FileID, how delivery) error {
	opened, err := s.openContent(r, ws, f)
	if errors.Is(err, storage.ErrCorrupt) {
		s.noteCorrupt(r, opened.rec, err)
		return errStorage.because(err)
	}
	if err != nil {
		return s.fetchFailed(r, ws, f, err)
	}
	defer opened.close()
	size := opened.rec.Content.Size
	switch opened.status {
	case http.StatusPreconditionFailed:
		return errPreconditionFailed
	case http.StatusRequestedRangeNotSatisfiable:
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", size))
		return errRangeUnsatisfiable.with("size", size)
	case http.StatusNotModified:
		setValidators(w.Header(), opened.rec.Content)
	default:
		setContentHeaders(w.Header(), opened.rec, opened.selection)
	}
	w.WriteHeader(opened.status)
	if !opened.sends(r) {
		return nil
	}
	if s.copyContent(w, r, opened) && opened.completes {
		s.delivered(r.Context(), opened.rec, how)
	}
	return nil
}

// fetchFailed is the reply to a fetch that ended before a reply had begun.
func (s *Server) fetchFailed(r *http.Request, ws storage.WorkspaceID, f storage.FileID, err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return s.notFound(r, ws, f, s.goneText())
	}
	if r.Context().Err() == nil {
		s.log.LogAttrs(r.Context(), slog.LevelWarn, "fetch failed",
			slog.String("workspace_id", ws.String()), slog.String("file_id", f.String()), slog.Any("error", err))
	}
	return errStorage.because(err)
}

// goneText is the 404 of a file that cannot be read (any more).
func (s *Server) goneText() *failure {
	if s.cfg.ReadAfterAck {
		return errUploadGoneReadable
	}
	return errUploadGone
}

// notFound answers for a file that is not the caller's to see. That it exists
// in another workspace is written down and changes only the wording.
func (s *Server) notFound(r *http.Request, ws storage.WorkspaceID, f storage.FileID, gone *failure) error {
	if s.cfg.Uploads == nil {
		return gone
	}
	owner, found, err := s.cfg.Uploads.Foreign(r.Context(), ws, f)
	switch {
	case err != nil:
		s.log.LogAttrs(r.Context(), slog.LevelWarn, "owner of a missing upload not looked up",
			slog.String("workspace_id", ws.String()), slog.String("file_id", f.String()), slog.Any("error", err))
		return gone
	case !found:
		return gone
	}
	s.log.LogAttrs(r.Context(), slog.LevelWarn, "workspace mismatch",
		slog.String("workspace_id", ws.String()), slog.String("owner_workspace_id", owner.String()),
		slog.String("file_id", f.String()))
	return errUploadForeign
}

// openedContent is what a request gets of a file. The first bytes of it have
// arrived, if it sends any.
type openedContent struct {
	selection
	rec  storage.Record
	body io.ReadCloser
	head []byte
}

func (o *openedContent) close() { _ = o.body.Close() }

// openContent finds the file and reads the beginning of what is wanted of it.
// With storage.ErrCorrupt the record is there all the same.
func (s *Server) openContent(r *http.Request, ws storage.WorkspaceID, f storage.FileID) (*openedContent, error) {
	return persist(r.Context(), s.cfg.Timeouts.Open, func(_ context.Context, deadline time.Time) (*openedContent, error) {
		return s.tryOpen(r, ws, f, deadline)
	})
}

// persist repeats try until it succeeds or its error is final, for as long as the
// client surely waits: both pollers take a failed fetch for final. try ends by
// the deadline.
func persist[T any](ctx context.Context, patience time.Duration, try func(ctx context.Context, deadline time.Time) (T, error)) (T, error) {
	policy := backoff.NewExponentialBackOff()
	policy.InitialInterval = 100 * time.Millisecond
	policy.MaxInterval = 2 * time.Second
	deadline := time.Now().Add(patience)
	return backoff.Retry(ctx, func() (T, error) {
		v, err := try(ctx, deadline)
		if errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrNoURL) || errors.Is(err, storage.ErrCorrupt) || ctx.Err() != nil {
			return v, backoff.Permanent(err)
		}
		return v, err
	}, backoff.WithBackOff(policy), backoff.WithMaxElapsedTime(patience))
}

// tryOpen is one attempt. One that hangs is cancelled at the deadline; the
// reader that it returns lives on under the request's context.
func (s *Server) tryOpen(r *http.Request, ws storage.WorkspaceID, f storage.FileID, deadline time.Time) (*openedContent, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	expire := time.AfterFunc(time.Until(deadline), func() { cancel(context.DeadlineExceeded) })
	o, err := s.readHead(r.WithContext(ctx), ws, f)
	if !expire.Stop() && err == nil {
		o.close()
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel(err)
		return o, err
	}
	o.body = cancelOnClose{o.body, func() { cancel(context.Canceled) }}
	return o, nil
}

type cancelOnClose struct {
	io.ReadCloser
	cancel func()
}

func (c cancelOnClose) Close() error {
	defer c.cancel()
	return c.ReadCloser.Close()
}

func (s *Server) readHead(r *http.Request, ws storage.WorkspaceID, f storage.FileID) (*openedContent, error) {
	if s.cfg.Storage == nil {
		return nil, storage.ErrNotFound
	}
	rec, err := s.cfg.Storage.Get(r.Context(), ws, f)
	if err != nil {
		return nil, err
	}
	o := &openedContent{selection: selectContent(r, rec.Content), rec: rec, body: http.NoBody}
	if !o.sends(r) {
		return o, nil
	}
	body, err := rec.Content.Open(r.Context(), o.span)
	if err != nil {
		return o, fmt.Errorf("open content of %v: %w", f, err)
	}
	o.body = verified(body, rec.Content, o.span)
	o.head = make([]byte, min(o.span.Length, headBytes))
	if _, err := io.ReadFull(o.body, o.head); err != nil {
		o.close()
		return o, fmt.Errorf("read content of %v: %w", f, err)
	}
	return o, nil
}

// copyContent sends the body and reports whether the client took all of it. A
// canvas that shows a preview leaves after 256 KiB, so a broken write is
// ordinary, and so is a read that was cancelled because the client left.
func (s *Server) copyContent(w http.ResponseWriter, r *http.Request, o *openedContent) bool {
	out := s.slowGuard(w, r)
	in := &failingReader{r: io.MultiReader(bytes.NewReader(o.head), o.body)}
	buf := s.copyBuffers.Get().(*[copyBytes]byte)
	n, err := io.CopyBuffer(out, in, buf[:])
	s.copyBuffers.Put(buf)
	switch {
	case errors.Is(in.err, storage.ErrCorrupt):
		s.noteCorrupt(r, o.rec, in.err)
		panic(http.ErrAbortHandler)
	case in.err != nil && r.Context().Err() == nil:
		s.log.LogAttrs(r.Context(), slog.LevelWarn, "fetch failed",
			append(recordAttrs(o.rec), slog.Int64("sent", n), slog.Any("error", in.err))...)
		panic(http.ErrAbortHandler)
	case err != nil:
		s.log.LogAttrs(r.Context(), slog.LevelDebug, "fetch broken off by client",
			append(recordAttrs(o.rec), slog.Int64("sent", n), slog.Any("error", err))...)
		return false
	case n != o.span.Length:
		s.log.LogAttrs(r.Context(), slog.LevelError, "content has another size than its row",
			append(recordAttrs(o.rec), slog.Int64("sent", n))...)
		panic(http.ErrAbortHandler)
	}
	return true
}

// failingReader tells a failed read from a failed write in io.Copy.
type failingReader struct {
	r   io.Reader
	err error
}

func (f *failingReader) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // io.Reader's contract
		f.err = err
	}
	return n, err
}
