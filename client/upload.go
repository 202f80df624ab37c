package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"sync/atomic"
	"time"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/storage"
)

// File is a file to upload.
type File struct {
	Name     string // its last path component is sent; the service sanitises it
	MIMEType string // empty: none is sent
	Size     int64  // bytes; negative: unknown until it was read
	// Open returns the content from its beginning. It is called again when the
	// upload is repeated.
	Open func() (io.ReadCloser, error)
}

// UploadOptions are what an upload may be told. The zero value is fine.
type UploadOptions struct {
	// IdempotencyKey names this upload: a service that knows such keys does one
	// upload for it, however often it is repeated. It must be another for other
	// files.
	IdempotencyKey string
	// Progress is called with the content bytes sent so far; it falls back to 0
	// when the upload is repeated.
	Progress func(sent int64)
}

// uploadAnswer bounds the time from the last byte sent to the answer: the store
// may still be busy with the content.
const uploadAnswer = 2 * time.Minute

// Upload stages files for the workspace in one request, all of them or none, and
// returns them in order. ErrTooLarge, ErrQuota, ErrUnauthorized, ErrNotFound (no such
// workspace). It is repeated only where the service surely staged nothing; after
// another failure, such as a connection that broke, nobody knows whether it did.
func (c *Client) Upload(ctx context.Context, files []File, o UploadOptions) ([]wire.UploadedFile, error) {
	switch {
	case len(files) == 0:
		return nil, errors.New("upload: no files")
	case len(files) > storage.MaxFilesPerBatch:
		return nil, fmt.Errorf("upload: %d files, want at most %d in a request", len(files), storage.MaxFilesPerBatch)
	}
	var reply wire.UploadReply
	err := c.retry(ctx, "upload", Unprocessed, func() error {
		reply = wire.UploadReply{}
		return c.upload(ctx, files, o, &reply)
	})
	if err != nil {
		return nil, fmt.Errorf("upload %d files: %w", len(files), err)
	}
	if len(reply.Files) != len(files) {
		return nil, fmt.Errorf("upload %d files: the answer lists %d", len(files), len(reply.Files))
	}
	return reply.Files, nil
}

func (c *Client) upload(parent context.Context, files []File, o UploadOptions, reply *wire.UploadReply) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	body, err := newForm(files, o.Progress)
	if err != nil {
		return err
	}
	// The clock runs while the body is sent, anew with each read of it, and then
	// while the answer is waited for.
	watched := watch(body, uploadAnswer, cancel)
	defer watched.pause()
	r, err := c.request(ctx, http.MethodPost, c.workspacePath("/chat/uploads"), nil, struct {
		io.Reader
		io.Closer
	}{watched, body})
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "multipart/form-data; boundary="+body.boundary)
	// The service refuses before the bytes are sent, if it does.
	r.Header.Set("Expect", "100-continue")
	if o.IdempotencyKey != "" {
		r.Header.Set("Idempotency-Key", o.IdempotencyKey)
	}
	r.ContentLength = body.length
	response, err := c.http.Do(r)
	if err != nil {
		if failed := body.failed(); failed != nil {
			return failed
		}
		return sendError(ctx, err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return answerError(response)
	}
	return decode(ctx, response, reply)
}

// form is the multipart body of files, opened one after the other.
type form struct {
	boundary string
	length   int64 // bytes; -1: unknown
	progress func(int64)

	parts  []formPart
	tail   io.Reader
	next   int       // part
	head   io.Reader // what is left of the current part's header
	cur    io.ReadCloser
	left   int64 // of the current file, if its size is known
	sent   int64
	broken atomic.Pointer[error] // of a file
}

type formPart struct {
	head []byte
	file File
}

// newForm lays the body out and computes its length.
func newForm(files []File, progress func(int64)) (*form, error) {
	var framing bytes.Buffer
	w := multipart.NewWriter(&framing)
	f := &form{boundary: w.Boundary(), progress: progress}
	unknown := false
	for _, file := range files {
		if file.Open == nil {
			return nil, fmt.Errorf("file %q: Open is required", file.Name)
		}
		h := textproto.MIMEHeader{"Content-Disposition": {contentDisposition(file.Name)}}
		if file.MIMEType != "" {
			h.Set("Content-Type", file.MIMEType)
		}
		if _, err := w.CreatePart(h); err != nil {
			return nil, fmt.Errorf("file %q: %w", file.Name, err)
		}
		f.parts = append(f.parts, formPart{head: bytes.Clone(framing.Bytes()), file: file})
		f.length += int64(framing.Len()) + file.Size
		unknown = unknown || file.Size < 0
		framing.Reset()
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("end the form: %w", err)
	}
	f.length += int64(framing.Len())
	if unknown {
		f.length = -1
	}
	f.tail = &framing
	if progress != nil {
		progress(0)
	}
	return f, nil
}

// contentDisposition gives the name in a spelling that cannot break the header.
func contentDisposition(name string) string {
	if text := mime.FormatMediaType("form-data", map[string]string{"name": "files", "filename": name}); text != "" && name != "" {
		return text
	}
	return `form-data; name="files"; filename="file"`
}

func (f *form) Read(p []byte) (int, error) {
	n, err := f.read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		f.broken.Store(&err)
	}
	return n, err
}

func (f *form) read(p []byte) (int, error) {
	for {
		if f.head == nil && f.cur == nil {
			if f.next == len(f.parts) {
				return f.tail.Read(p)
			}
			f.head = bytes.NewReader(f.parts[f.next].head)
		}
		if f.head != nil {
			if n, err := f.head.Read(p); n > 0 || err == nil {
				return n, nil
			}
			f.head = nil
			if err := f.open(); err != nil {
				return 0, err
			}
		}
		n, err := f.cur.Read(p)
		f.left -= int64(n)
		f.sent += int64(n)
		if f.progress != nil && n > 0 {
			f.progress(f.sent)
		}
		if known := f.parts[f.next].file.Size; known >= 0 && (f.left < 0 || errors.Is(err, io.EOF) && f.left > 0) {
			return 0, fmt.Errorf("file %q: %w: it had %d bytes", f.parts[f.next].file.Name, ErrFileChanged, known)
		}
		if errors.Is(err, io.EOF) {
			err = f.cur.Close()
			f.cur, f.next = nil, f.next+1
		}
		if err != nil {
			return n, fmt.Errorf("read file: %w", err)
		}
		if n > 0 {
			return n, nil
		}
	}
}

// ErrFileChanged is the error of an upload whose file grew or shrank meanwhile.
var ErrFileChanged = errors.New("the file changed while it was sent")

func (f *form) open() error {
	file := f.parts[f.next].file
	rc, err := file.Open()
	if err != nil {
		return fmt.Errorf("file %q: %w", file.Name, err)
	}
	f.cur, f.left = rc, file.Size
	return nil
}

// failed is the error of a file, if one made the request fail.
func (f *form) failed() error {
	if err := f.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// Close closes the file that is open. The transport calls it once it reads no
// more, which may be after it has returned an answer.
func (f *form) Close() error {
	if f.cur == nil {
		return nil
	}
	return f.cur.Close()
}

// framing is more than the multipart framing of one file takes, whatever its name.
const framing = 4 << 10

// Batches splits files into requests that the service takes, in order. An error
// names the first file that it would refuse: ErrTooLarge, or storage's rule that
// a file is not empty. A file of unknown size goes into a request of its own.
func Batches(files []File, l wire.Limits) ([][]File, error) {
	var all [][]File
	var batch []File
	var bytes int64
	flush := func() {
		if len(batch) > 0 {
			all, batch, bytes = append(all, batch), nil, 0
		}
	}
	for _, f := range files {
		switch {
		case f.Size == 0:
			return nil, fmt.Errorf("file %q: %w", f.Name, ErrEmptyFile)
		case l.PerFileBytes > 0 && f.Size > l.PerFileBytes:
			return nil, fmt.Errorf("file %q: %w: it has %d bytes, the service takes %d", f.Name, ErrTooLarge, f.Size, l.PerFileBytes)
		case f.Size < 0:
			flush()
			all = append(all, []File{f})
			continue
		case len(batch) == storage.MaxFilesPerBatch, l.PerRequestBytes > 0 && bytes+f.Size+framing > l.PerRequestBytes:
			flush()
		}
		batch, bytes = append(batch, f), bytes+f.Size+framing
	}
	flush()
	return all, nil
}

// ErrEmptyFile is a file without bytes, which the service does not take.
var ErrEmptyFile = errors.New("the file is empty")
