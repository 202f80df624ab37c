package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/storage"
)

// Sink takes the bytes of a file in order.
type Sink interface {
	io.Writer
	// Restart drops what was written: the content begins anew.
	Restart() error
}

// FetchOptions are what a fetch may be told. The zero value is fine.
type FetchOptions struct {
	MaxBytes int64                   // refuse more; 0: no bound
	Progress func(done, total int64) // called as bytes arrive; total is negative while unknown
	From     Partial                 // what the sink holds already; the zero value: nothing
	Began    func(etag string)       // called before the first byte of the content is written, with its strong tag or ""
}

// Partial is the beginning of a file that was fetched before.
type Partial struct {
	Offset int64     // bytes
	ETag   string    // of the content that they are of: a strong one
	Sum    hash.Hash // SHA-256 over exactly these bytes
}

// Fetched is a file that was fetched whole.
type Fetched struct {
	Received
	Filename string // as the service announces it; empty if it does not
	MIMEType string
	Resumed  int // times that a broken transfer went on where it had stopped
}

// throughService asks for the bytes themselves where the service would redirect.
var throughService = url.Values{"delivery": {"proxy"}}

// errChanged is a transfer that went on with other content than it began with.
var errChanged = errors.New("the content changed")

// Fetch fetches a file's bytes into sink. A transfer that breaks goes on where it
// stopped, with a Range request that holds only for the same content (If-Range);
// where the service cannot do that, or the content is another, it begins anew.
// What arrives is compared with the length and the SHA-256 that the service
// announces. Fetching does not acknowledge. Config.FetchBy says where the bytes
// come from.
//
// ErrNotFound: the file is gone, give up. ErrUnauthorized. ErrTooLarge: more than
// MaxBytes. ErrCorrupt. An error of the sink is returned at once. A later fetch can
// go on where one ended: keep the tag that Began told, and hand over From.
func (c *Client) Fetch(ctx context.Context, f storage.FileID, sink Sink, o FetchOptions) (Fetched, error) {
	t := &transfer{c: c, file: f, sink: sink, o: o, sum: sha256.New(), total: -1}
	if o.From.Offset > 0 && o.From.ETag != "" && o.From.Sum != nil {
		t.offset, t.etag, t.sum = o.From.Offset, o.From.ETag, o.From.Sum
	}
	for !t.done {
		before, restarts := t.offset, t.restarts
		var broke error
		err := c.retry(ctx, "fetch", t.again, func() error {
			err := t.attempt(ctx)
			if err != nil && t.again(err) && (t.offset > before || t.restarts > restarts) {
				// Some of it came: that is worth new patience, after a pause.
				c.log.LogAttrs(ctx, slog.LevelInfo, "transfer broke", slog.String("file_id", f.String()), slog.Int64("at", t.offset), slog.Any("error", err))
				broke = err
				return wait(ctx, newBackOff().NextBackOff())
			}
			return err
		})
		if err == nil && t.restarts > maxRestarts {
			err = broke
		}
		if err != nil {
			return Fetched{}, fmt.Errorf("fetch file %v: %w", f, err)
		}
	}
	got := Fetched{Received: Received{Size: t.offset}, Filename: t.filename, MIMEType: t.mimeType, Resumed: t.resumed}
	t.sum.Sum(got.SHA256[:0])
	return got, nil
}

// maxRestarts is how often a file may begin anew.
const maxRestarts = 5

// transfer is a fetch under way.
type transfer struct {
	c    *Client
	file storage.FileID
	sink Sink
	o    FetchOptions

	etag               string
	total              int64 // bytes; negative: unknown
	filename, mimeType string

	offset   int64 // bytes in the sink
	sum      hash.Hash
	resumed  int
	restarts int
	done     bool

	at      *wire.ContentURL // where the content is; nil: to be asked for
	proxied bool             // the service is asked for this file, whatever the client fetches by
}

// sinkError is a failure of the receiving side.
type sinkError struct{ err error }

func (e *sinkError) Error() string { return e.err.Error() }
func (e *sinkError) Unwrap() error { return e.err }

func (t *transfer) again(err error) bool {
	var sink *sinkError
	return !errors.As(err, &sink) && Temporary(err)
}

func (t *transfer) attempt(ctx context.Context) error {
	if t.byURL() {
		if instead, err := t.attemptByURL(ctx); !instead {
			return err
		}
	}
	return t.attemptByProxy(ctx)
}

func (t *transfer) attemptByProxy(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	r, err := t.c.request(ctx, http.MethodGet, t.c.filePath(t.file, "content"), throughService, nil)
	if err != nil {
		return err
	}
	if t.offset > 0 && t.etag == "" {
		// Without a tag nobody can tell whether the rest belongs to the beginning.
		if err := t.restart(); err != nil {
			return err
		}
	}
	if t.offset > 0 {
		r.Header.Set("Range", "bytes="+strconv.FormatInt(t.offset, 10)+"-")
		r.Header.Set("If-Range", t.etag)
	}
	body := watch(nil, t.c.cfg.Silence, cancel)
	defer body.pause()
	response, err := t.c.http.Do(r)
	if err != nil {
		return sendError(ctx, err)
	}
	defer func() { _ = response.Body.Close() }()
	if err := t.begin(response); err != nil {
		return err
	}
	body.r = response.Body
	if err := t.copy(body); err != nil {
		return orCause(ctx, err)
	}
	return t.finish()
}

// begin reads the head of an answer and puts the sink where its body belongs.
func (t *transfer) begin(response *http.Response) error {
	switch response.StatusCode {
	case http.StatusOK:
		if t.offset > 0 {
			if err := t.restart(); err != nil {
				return err
			}
		}
		t.etag, t.total = strongTag(response.Header.Get("ETag")), response.ContentLength
	case http.StatusPartialContent:
		first, total, ok := contentRange(response.Header.Get("Content-Range"))
		if t.total < 0 {
			t.total = total // of what an earlier fetch began
		}
		if !ok || t.offset == 0 || first != t.offset || total != t.total || strongTag(response.Header.Get("ETag")) != t.etag {
			return errors.Join(errChanged, t.restart())
		}
		t.resumed++
	case http.StatusRequestedRangeNotSatisfiable:
		return errors.Join(errChanged, t.restart())
	default:
		return answerError(response)
	}
	t.filename, t.mimeType = disposition(response.Header.Get("Content-Disposition")), response.Header.Get("Content-Type")
	if t.o.Began != nil && t.offset == 0 {
		t.o.Began(t.etag)
	}
	if t.o.MaxBytes > 0 && t.total > t.o.MaxBytes {
		return t.tooLarge()
	}
	return nil
}

func (t *transfer) tooLarge() error {
	return &sinkError{fmt.Errorf("%w: %d bytes or more, want at most %d", ErrTooLarge, max(t.total, t.offset), t.o.MaxBytes)}
}

func (t *transfer) restart() error {
	t.restarts++
	t.offset, t.etag, t.total = 0, "", -1
	t.sum.Reset()
	if err := t.sink.Restart(); err != nil {
		return &sinkError{err}
	}
	return nil
}

// copy moves the body into the sink, and no more of it than was announced: an
// answer without a length need not end. The clock on pauses stands while the sink
// writes.
func (t *transfer) copy(body *watchedReader) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := body.Read(buf)
		body.pause()
		if n > 0 {
			if t.o.MaxBytes > 0 && t.offset+int64(n) > t.o.MaxBytes {
				return t.tooLarge()
			}
			if t.total >= 0 && t.offset+int64(n) > t.total {
				return errors.Join(ErrCorrupt, t.restart())
			}
			if _, err := t.sink.Write(buf[:n]); err != nil {
				return &sinkError{err}
			}
			t.sum.Write(buf[:n])
			t.offset += int64(n)
			if t.o.Progress != nil {
				t.o.Progress(t.offset, t.total)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read content at %d: %w", t.offset, err)
		}
	}
}

// finish compares what came with what was announced.
func (t *transfer) finish() error {
	if t.total >= 0 && t.offset != t.total {
		return fmt.Errorf("read content at %d: %w", t.offset, io.ErrUnexpectedEOF)
	}
	if announced, err := hex.DecodeString(strings.Trim(t.etag, `"`)); err == nil && len(announced) == sha256.Size && string(announced) != string(t.sum.Sum(nil)) {
		return errors.Join(ErrCorrupt, t.restart())
	}
	t.done = true
	return nil
}

// strongTag is the tag if it is a strong one, which alone can be resumed on.
func strongTag(tag string) string {
	if len(tag) < 2 || tag[0] != '"' {
		return ""
	}
	return tag
}

func disposition(header string) string {
	_, params, err := mime.ParseMediaType(header)
	if err != nil {
		return ""
	}
	return params["filename"]
}

// contentRange reads "bytes FIRST-LAST/TOTAL" of an answer that goes to the end.
func contentRange(header string) (first, total int64, ok bool) {
	var last int64
	if n, err := fmt.Sscanf(header, "bytes %d-%d/%d", &first, &last, &total); err != nil || n != 3 {
		return 0, 0, false
	}
	return first, total, first >= 0 && last == total-1
}

// noRestart is the sink of WriterSink.
type noRestart struct{ io.Writer }

// ErrRestarted is the error of a fetch into a plain writer whose content had to
// begin anew.
var ErrRestarted = errors.New("the content began anew, and its first bytes cannot be taken back")

func (noRestart) Restart() error { return ErrRestarted }

// WriterSink makes a Sink of a writer that cannot take bytes back, such as a pipe.
// A fetch into it fails with ErrRestarted where it would have to begin anew after
// it wrote something.
func WriterSink(w io.Writer) Sink { return noRestart{w} }
