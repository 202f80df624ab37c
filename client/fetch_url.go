package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
)

// FetchWay says where Fetch gets content.
type FetchWay string

const (
	// FetchByProxy gets content from the service. The default.
	FetchByProxy FetchWay = "proxy"

	// FetchByURL asks the service for a URL (?delivery=url) and gets content there,
	// mostly at the object store, without the token. Content that is not what the
	// service announced is fetched again from the service, and so is everything for
	// ten minutes where the store cannot be reached from here, fails three times in
	// a row, or the service has no URLs.
	FetchByURL FetchWay = "url"
)

const (
	// storePause is how long the service is asked for content instead of a store
	// that does not work: laptops move to networks where it does.
	storePause = 10 * time.Minute
	// mostStoreFailures is how often a store that has worked may fail in a row.
	mostStoreFailures = 3
)

// throughURL asks for a URL.
var throughURL = url.Values{"delivery": {"url"}}

var (
	errNoURLs    = errors.New("the service has no URLs of content")
	errNoDigest  = errors.New("the service does not know the content's SHA-256")
	errNoAddress = errors.New("the service's answer holds no address to fetch from")
)

// storeWay is what a client knows of the way to the object store.
type storeWay struct {
	worked   atomic.Bool  // it has answered with content once
	failures atomic.Int32 // in a row, of all transfers
	closed   atomic.Int64 // until when it is not tried, in nanoseconds of Unix time
}

func (w *storeWay) open() bool { return time.Now().UnixNano() >= w.closed.Load() }

func (w *storeWay) close() {
	w.failures.Store(0)
	w.closed.Store(time.Now().Add(storePause).UnixNano())
}

// byURL reports whether the next attempt goes to the store.
func (t *transfer) byURL() bool {
	return t.c.cfg.FetchBy == FetchByURL && !t.proxied && t.c.store.open()
}

// attemptByURL is an attempt at the store. instead: the service is to be asked for
// the content, at once.
func (t *transfer) attemptByURL(parent context.Context) (instead bool, err error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	for {
		fresh := t.at == nil
		if fresh {
			switch err := t.locate(ctx); {
			case errors.Is(err, errNoURLs), errors.Is(err, errNoDigest):
				return t.leave(ctx, err), err
			case err != nil:
				return false, err
			}
		}
		err := t.getByURL(ctx, cancel)
		var refusal *storeError
		var sink *sinkError
		switch {
		case err == nil, parent.Err() != nil, errors.As(err, &sink):
			return false, err
		case !fresh && errors.As(err, &refusal) && !refusal.temporary():
			t.at = nil // it has ended, by the store's clock or with the keys that signed it
			continue
		}
		return t.leave(ctx, err), err
	}
}

// locate asks the service where the content is, and what.
func (t *transfer) locate(ctx context.Context) error {
	at, err := t.c.contentURL(ctx, t)
	if err != nil {
		return err
	}
	if digest, err := hex.DecodeString(at.SHA256); err != nil || len(digest) != sha256.Size {
		return errNoDigest
	}
	if t.o.MaxBytes > 0 && at.Size > t.o.MaxBytes {
		t.total = at.Size
		return t.tooLarge()
	}
	t.at = &at
	return nil
}

func (c *Client) contentURL(ctx context.Context, t *transfer) (at wire.ContentURL, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTime, errNoAnswer)
	defer cancel()
	r, err := c.request(ctx, http.MethodGet, c.filePath(t.file, "content"), throughURL, nil)
	if err != nil {
		return at, err
	}
	response, err := c.http.Do(r)
	if err != nil {
		return at, sendError(ctx, err)
	}
	defer func() { _ = response.Body.Close() }()
	switch {
	case response.StatusCode != http.StatusOK:
		err := answerError(response)
		if refusal := new(Error); errors.As(err, &refusal) && refusal.Status == http.StatusBadRequest && !refusal.Foreign {
			return at, errNoURLs
		}
		return at, err
	case response.Header.Get("Content-Disposition") != "":
		return at, errNoURLs // it knows no ways of delivery, and this is the content
	}
	if err := decode(ctx, response, &at); err != nil {
		return at, err
	}
	if at.URL == "" || at.Size <= 0 {
		return at, &NotTheServiceError{ContentType: response.Header.Get("Content-Type"), Err: errNoAddress}
	}
	return at, nil
}

// getByURL takes what is missing from where the content is.
func (t *transfer) getByURL(ctx context.Context, cancel context.CancelCauseFunc) error {
	if t.offset > 0 && t.etag != t.tagAtURL() {
		if err := t.restart(); err != nil {
			return err
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, t.at.URL, nil)
	if err != nil {
		return errNoAddress // the error would repeat it
	}
	for name, value := range t.at.Headers {
		r.Header.Set(name, value)
	}
	r.Header.Set("User-Agent", t.c.cfg.UserAgent)
	if t.offset > 0 {
		// The store has tags of its own: the digest of the whole decides.
		r.Header.Set("Range", "bytes="+strconv.FormatInt(t.offset, 10)+"-")
	}
	body := watch(nil, t.c.cfg.Silence, cancel)
	defer body.pause()
	response, err := t.c.http.Do(r)
	if err != nil {
		return orCause(ctx, withoutURL(err))
	}
	defer func() { _ = response.Body.Close() }()
	if err := t.beginAtURL(response); err != nil {
		return err
	}
	t.c.store.worked.Store(true)
	body.r = response.Body
	before := t.offset
	err = t.copy(body)
	if t.offset > before {
		t.c.store.failures.Store(0)
	}
	if err != nil {
		return orCause(ctx, err)
	}
	return t.finish()
}

// tagAtURL is the tag that the service gives the content.
func (t *transfer) tagAtURL() string { return `"` + t.at.SHA256 + `"` }

// beginAtURL is begin for an answer of the store.
func (t *transfer) beginAtURL(response *http.Response) error {
	switch response.StatusCode {
	case http.StatusOK:
		if t.offset > 0 {
			if err := t.restart(); err != nil {
				return err
			}
		}
		if response.ContentLength >= 0 && response.ContentLength != t.at.Size {
			return errChanged
		}
	case http.StatusPartialContent:
		first, total, ok := contentRange(response.Header.Get("Content-Range"))
		if !ok || t.offset == 0 || first != t.offset || total != t.at.Size {
			return errors.Join(errChanged, t.restart())
		}
		t.resumed++
	case http.StatusRequestedRangeNotSatisfiable:
		return errors.Join(errChanged, t.restart())
	default:
		return readStoreError(response)
	}
	t.etag, t.total = t.tagAtURL(), t.at.Size
	t.filename, t.mimeType = disposition(response.Header.Get("Content-Disposition")), response.Header.Get("Content-Type")
	if t.o.Began != nil && t.offset == 0 {
		t.o.Began(t.etag)
	}
	return nil
}

// leave judges a failure: whether the service is asked for the content from now
// on, for this file or for all.
func (t *transfer) leave(ctx context.Context, cause error) bool {
	store := &t.c.store
	var refusal *storeError
	answered := errors.As(cause, &refusal)
	switch {
	case errors.Is(cause, errNoURLs):
		store.close()
	case errors.Is(cause, errChanged), errors.Is(cause, ErrCorrupt), errors.Is(cause, errNoDigest), errors.Is(cause, errNoAddress):
		// The service finds out whether its object is right.
		t.proxied = true
	case answered && !refusal.temporary():
		t.proxied = true
		if !store.worked.Load() && refusal.status != http.StatusNotFound {
			store.close()
		}
	case store.failures.Add(1) < mostStoreFailures && (answered || store.worked.Load()):
		return false
	default:
		store.close()
	}
	t.c.log.LogAttrs(ctx, slog.LevelInfo, "content comes through the service",
		slog.String("file_id", t.file.String()), slog.Bool("all", !store.open()), slog.Any("reason", cause))
	return true
}
