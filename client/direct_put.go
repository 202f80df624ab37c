package client

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
)

// expectFrom is the size from which the object store is asked whether it will
// take a file before its bytes are sent.
const expectFrom = 1 << 20

// directPuts sends files to the object store.
type directPuts struct {
	c       *Client
	sent    *directProgress
	reached atomic.Bool // the store has answered once
}

// put sends a piece until the store has it. A store that fails for as long as the
// client has patience is as good as none: a proxy that stands before a dead one
// answers in its place.
func (d *directPuts) put(ctx context.Context, i int, p piece) error {
	err := d.send(ctx, i, p)
	var broken *fileError
	switch {
	case err == nil, ctx.Err() != nil, errors.As(err, &broken), errors.Is(err, ErrFileChanged), errors.Is(err, ErrDirectUnavailable):
		return err
	}
	return fmt.Errorf("%w: %w", ErrDirectUnavailable, err)
}

// send is put without a judgement of what it ended with.
func (d *directPuts) send(ctx context.Context, i int, p piece) error {
	return d.c.retry(ctx, "send to the object store", storeMayTake, func() error {
		d.sent.set(i, 0)
		err := d.attempt(ctx, i, p)
		if err == nil {
			d.sent.set(i, p.size)
		}
		return err
	})
}

// storeMayTake reports whether sending again can help.
func storeMayTake(err error) bool {
	var refusal *storeError
	switch {
	case errors.As(err, &refusal):
		return refusal.temporary()
	case errors.Is(err, ErrDirectUnavailable), errors.Is(err, ErrFileChanged):
		return false
	}
	var broken *fileError
	return !errors.As(err, &broken) && Temporary(err)
}

func (d *directPuts) attempt(parent context.Context, i int, p piece) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	content, err := p.open(ctx)
	switch {
	case errors.Is(err, ErrFileChanged):
		return err
	case err != nil:
		return &fileError{err}
	}
	body := &putBody{rc: content, r: content, left: p.size, piece: p, sent: func(n int64) { d.sent.set(i, n) }}
	if p.part {
		body.r = io.LimitReader(content, p.size)
	}
	defer body.done.Store(true)
	watched := watch(body, uploadAnswer, cancel)
	defer watched.pause()
	connected := false
	r, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected = true },
	}), p.to.Method, p.to.URL, struct {
		io.Reader
		io.Closer
	}{watched, body})
	if err != nil {
		_ = body.Close()
		return errNoTarget
	}
	for name, value := range p.to.Headers {
		r.Header.Set(name, value)
	}
	r.Header.Del("Content-Length")
	r.ContentLength = p.size
	r.Header.Set("User-Agent", d.c.cfg.UserAgent)
	if p.size >= expectFrom {
		r.Header.Set("Expect", "100-continue")
	}
	response, err := d.c.http.Do(r)
	if err != nil {
		err = withoutURL(err)
		switch failed := body.failed(); {
		case failed != nil:
			return failed
		case !connected && !d.reached.Load() && parent.Err() == nil:
			return fmt.Errorf("%w: the object store cannot be reached: %w", ErrDirectUnavailable, err)
		}
		return sendError(ctx, err)
	}
	defer func() { _ = response.Body.Close() }()
	d.reached.Store(true)
	if response.StatusCode == http.StatusOK || response.StatusCode == http.StatusPreconditionFailed {
		// With 412 the object is there already: an attempt whose answer was lost put
		// it. The commit looks whether it is the right one.
		return nil
	}
	return readStoreError(response)
}

// errNoTarget is an answer of the service that nobody can act on.
var errNoTarget = errors.New("the service's answer holds no address to send to")

// withoutURL takes the address, with which anybody could write, out of an error
// that is going to be shown.
func withoutURL(err error) error {
	var withURL *url.Error
	if errors.As(err, &withURL) {
		return withURL.Err
	}
	return err
}

// storeError is an answer of the object store that refuses.
type storeError struct {
	status  int
	code    string
	message string
}

func (e *storeError) Error() string {
	text := fmt.Sprintf("the object store answers with status %d", e.status)
	if e.code != "" {
		text += " " + e.code
	}
	if e.message != "" {
		text += ": " + e.message
	}
	return text
}

// Is makes a refusal that lasts ErrDirectUnavailable, and one of the content
// ErrFileChanged: it no longer has the digest that it had before.
func (e *storeError) Is(target error) bool {
	if e.temporary() {
		return false
	}
	changed := slices.Contains([]string{"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}, e.code)
	return changed && target == ErrFileChanged || !changed && target == ErrDirectUnavailable //nolint:errorlint // this is errors.Is
}

func (e *storeError) temporary() bool {
	switch e.status {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented:
		return false
	}
	// S3 calls a connection that was too slow a bad request.
	return e.status >= http.StatusInternalServerError || e.code == "RequestTimeout"
}

func readStoreError(response *http.Response) error {
	e := &storeError{status: response.StatusCode}
	var body struct {
		Code    string
		Message string
	}
	if xml.NewDecoder(io.LimitReader(response.Body, 64<<10)).Decode(&body) == nil {
		e.code, e.message = body.Code, body.Message
	}
	return e
}

// fileError is a file that cannot be read.
type fileError struct{ err error }

func (e *fileError) Error() string { return "read file: " + e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

// putBody is a piece as it is sent.
type putBody struct {
	rc     io.ReadCloser
	r      io.Reader // of rc: no more than a part
	piece  piece
	left   int64
	sent   func(int64)
	broken atomic.Pointer[error]
	done   atomic.Bool // what is read now is not sent any more
}

func (b *putBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.left -= int64(n)
	switch {
	case b.left < 0, errors.Is(err, io.EOF) && b.left > 0:
		n, err = 0, fmt.Errorf("%w: it had %d bytes", ErrFileChanged, b.piece.file.Size)
	case err != nil && !errors.Is(err, io.EOF):
		err = &fileError{err}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		b.broken.Store(&err)
		return n, err
	}
	if n > 0 && !b.done.Load() {
		b.sent(b.piece.size - b.left)
	}
	return n, err
}

func (b *putBody) Close() error { return b.rc.Close() }

// failed is the file's own error, if it made the request fail.
func (b *putBody) failed() error {
	if err := b.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// directProgress adds up what several goroutines send.
type directProgress struct {
	report func(sent int64)

	mu     sync.Mutex
	pieces []int64
	total  int64
}

// set says how much of a piece was sent.
func (p *directProgress) set(piece int, sent int64) {
	if p.report == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total += sent - p.pieces[piece]
	p.pieces[piece] = sent
	p.report(p.total)
}
