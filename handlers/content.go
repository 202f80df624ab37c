package handlers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/cenkalti/backoff/v5"

	"github.com/molecule-ai/pendinguploads/storage"
)

const (
	// headBytes is how much content is read before the reply begins.
	headBytes = 64 << 10
	// copyBytes is how much content is held at a time.
	copyBytes = 256 << 10
	// stampTimeout bounds the note that content was fetched: small replies reach
	// the client only after it.
	stampTimeout = 2 * time.Second
)

// content serves a pending upload's bytes: all of them with 200, or an error.
// What fails after the reply has begun cuts the connection, so that a short
// body never passes for a whole one.
func (s *Server) content(w http.ResponseWriter, r *http.Request) error {
	ws, f, err := pathFile(r)
	if err != nil {
		return err
	}
	opened, err := s.openContent(r.Context(), ws, f)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return s.notFound(r, ws, f, s.goneText())
	case err != nil:
		if r.Context().Err() == nil {
			s.log.LogAttrs(r.Context(), slog.LevelWarn, "fetch failed",
				slog.String("workspace_id", ws.String()), slog.String("file_id", f.String()), slog.Any("error", err))
		}
		return errStorage.because(err)
	}
	defer opened.close()
	setContentHeaders(w.Header(), opened.rec)
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	if s.copyContent(w, r, opened) {
		s.stampFetched(r.Context(), opened.rec)
	}
	return nil
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

// openedContent is content whose first bytes have arrived.
type openedContent struct {
	rec  storage.Record
	body io.ReadCloser
	head []byte
}

func (o *openedContent) close() { _ = o.body.Close() }

// openContent finds the file and reads the beginning of it, trying again for as
// long as the client surely waits: both pollers take a failed fetch for final.
func (s *Server) openContent(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (*openedContent, error) {
	policy := backoff.NewExponentialBackOff()
	policy.InitialInterval = 100 * time.Millisecond
	policy.MaxInterval = 2 * time.Second
	deadline := time.Now().Add(s.cfg.Timeouts.Open)
	return backoff.Retry(ctx, func() (*openedContent, error) {
		o, err := s.tryOpen(ctx, ws, f, deadline)
		if errors.Is(err, storage.ErrNotFound) || ctx.Err() != nil {
			return o, backoff.Permanent(err)
		}
		return o, err
	}, backoff.WithBackOff(policy), backoff.WithMaxElapsedTime(s.cfg.Timeouts.Open))
}

// tryOpen is one attempt. One that hangs is cancelled at the deadline; the
// reader that it returns lives on under ctx.
func (s *Server) tryOpen(ctx context.Context, ws storage.WorkspaceID, f storage.FileID, deadline time.Time) (*openedContent, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	expire := time.AfterFunc(time.Until(deadline), func() { cancel(context.DeadlineExceeded) })
	o, err := s.readHead(ctx, ws, f)
	if !expire.Stop() && err == nil {
		o.close()
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel(err)
		return nil, err
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

func (s *Server) readHead(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (*openedContent, error) {
	if s.cfg.Storage == nil {
		return nil, storage.ErrNotFound
	}
	rec, err := s.cfg.Storage.Get(ctx, ws, f)
	if err != nil {
		return nil, err
	}
	body, err := rec.Content.Open(ctx, storage.Range{})
	if err != nil {
		return nil, fmt.Errorf("open content of %v: %w", f, err)
	}
	head := make([]byte, min(rec.Content.Size, headBytes))
	if _, err := io.ReadFull(body, head); err != nil {
		_ = body.Close()
		return nil, fmt.Errorf("read content of %v: %w", f, err)
	}
	return &openedContent{rec: rec, body: body, head: head}, nil
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
	case in.err != nil && r.Context().Err() == nil:
		s.log.LogAttrs(r.Context(), slog.LevelWarn, "fetch failed",
			append(recordAttrs(o.rec), slog.Int64("sent", n), slog.Any("error", in.err))...)
		panic(http.ErrAbortHandler)
	case err != nil:
		s.log.LogAttrs(r.Context(), slog.LevelDebug, "fetch broken off by client",
			append(recordAttrs(o.rec), slog.Int64("sent", n), slog.Any("error", err))...)
		return false
	case n != o.rec.Content.Size:
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

// stampFetched records the fetch. Failing to changes nothing for the client,
// which may have acknowledged already.
func (s *Server) stampFetched(ctx context.Context, rec storage.Record) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stampTimeout)
	defer cancel()
	err := s.cfg.Storage.MarkFetched(ctx, rec.WorkspaceID, rec.FileID)
	if err == nil {
		return
	}
	level := slog.LevelWarn
	if errors.Is(err, storage.ErrNotFound) {
		level = slog.LevelDebug
	}
	s.log.LogAttrs(ctx, level, "fetched_at not stamped", append(recordAttrs(rec), slog.Any("error", err))...)
}

// setContentHeaders describes the content. It is always an attachment: what an
// uploader chose must never render inside the platform's origin.
func setContentHeaders(h http.Header, rec storage.Record) {
	h.Set("Content-Type", servedType(rec.MIMEType))
	h.Set("Content-Disposition", attachment(rec.Filename))
	h.Set("Content-Length", strconv.FormatInt(rec.Content.Size, 10))
}

// servedType is the stored type if it is fit for a header. Rows of other
// software may hold types that were never checked.
func servedType(stored string) string {
	if stored == "" {
		return storage.OctetStream
	}
	if _, _, err := mime.ParseMediaType(stored); err != nil || strings.ContainsFunc(stored, unicode.IsControl) {
		stored = storage.ReduceMIMEType(stored)
	}
	if stored == "" {
		return storage.OctetStream
	}
	return stored
}

// attachment is a Content-Disposition that is safe for any name (contract 2.6):
// once quoted, once percent-encoded for everything outside plain ASCII.
func attachment(name string) string {
	var quoted, pct strings.Builder
	for _, r := range name {
		switch {
		case unicode.IsControl(r):
		case r == '"' || r == '\\':
			quoted.WriteByte('\\')
			quoted.WriteRune(r)
		default:
			quoted.WriteRune(r)
		}
	}
	for i := range len(name) {
		if c := name[i]; isUnreserved(c) {
			pct.WriteByte(c)
		} else {
			fmt.Fprintf(&pct, "%%%02X", c)
		}
	}
	return `attachment; filename="` + quoted.String() + `"; filename*=UTF-8''` + pct.String()
}

func isUnreserved(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}
