package handlers

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path"
	"sync"

	"github.com/molecule-ai/pendinguploads/storage"
)

const (
	// filesField is the name of the parts that carry files (contract 2.4).
	filesField = "files"
	// maxParts bounds files and other fields together, as the standard parser
	// does where a whole form is parsed.
	maxParts = 1000
	// partHeaderBytes bounds what may stand between two bodies: a part's header,
	// or the text before the first. Headers are held in memory.
	partHeaderBytes = 64 << 10
	// formBuffer is how much of a body is read from the connection at a time.
	formBuffer = 64 << 10
)

// errRequestCap: a body goes on beyond the request cap.
var errRequestCap = errors.New("request body exceeds cap")

// cappedReader fails with errRequestCap once the body has more bytes than the
// cap. Unlike http.MaxBytesReader it leaves the connection usable, so that the
// rest can be drained.
type cappedReader struct {
	r     io.Reader
	left  int64
	total int64 // bytes read, the first one beyond the cap included
	over  bool
}

func (c *cappedReader) Read(p []byte) (int, error) {
	if c.over {
		return 0, errRequestCap
	}
	if int64(len(p)) > c.left+1 {
		p = p[:c.left+1]
	}
	n, err := c.r.Read(p)
	c.total += int64(n)
	if int64(n) > c.left {
		c.over = true
		n, err = int(c.left), errRequestCap
	}
	c.left -= int64(n)
	return n, err
}

// headerBudget fails when too much is read while it is armed.
type headerBudget struct {
	r     io.Reader
	armed bool
	left  int
}

var errPartHeaderTooLong = fmt.Errorf("part header above %d bytes", partHeaderBytes)

func (h *headerBudget) arm(on bool) { h.armed, h.left = on, partHeaderBytes }

func (h *headerBudget) Read(p []byte) (int, error) {
	if h.armed && h.left <= 0 {
		return 0, errPartHeaderTooLong
	}
	n, err := h.r.Read(p)
	if h.armed {
		h.left -= n
	}
	return n, err
}

// form reads the files out of a multipart body, one after the other and never
// more of it than a buffer.
type form struct {
	capped *cappedReader
	buffer *bufio.Reader
	budget *headerBudget
	parts  *multipart.Reader

	names   []string  // of the files so far, as received
	current *filePart // the latest file
	fault   error     // what was wrong with the body: a *failure
}

// formBuffers saves each upload the allocation of its buffer.
var formBuffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, formBuffer) }}

// newForm looks at the request's Content-Type only.
func newForm(r *http.Request, body *cappedReader) (*form, error) {
	f := &form{capped: body}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		f.fault = errMalformedMultipart.because(fmt.Errorf("content type %q: %w", kind, errors.Join(err, http.ErrMissingBoundary)))
		return f, f.fault
	}
	f.buffer = formBuffers.Get().(*bufio.Reader)
	f.buffer.Reset(body)
	f.budget = &headerBudget{r: f.buffer}
	f.parts = multipart.NewReader(f.budget, params["boundary"])
	return f, nil
}

// close gives the form's buffer back; nothing is read from the form after it.
func (f *form) close() {
	if f.buffer == nil {
		return
	}
	f.buffer.Reset(nil)
	formBuffers.Put(f.buffer)
	f.buffer = nil
}

// uploads yields the files. It ends with an error at the first thing that is
// wrong with the body.
func (f *form) uploads() iter.Seq2[storage.Upload, error] {
	return func(yield func(storage.Upload, error) bool) {
		for range maxParts {
			u, ok, err := f.next()
			switch {
			case errors.Is(err, errFormEnd):
				return
			case err != nil:
				f.fault = err
				yield(storage.Upload{}, err)
				return
			case ok && !yield(u, nil):
				return
			}
		}
		f.fault = errMalformedMultipart.because(fmt.Errorf("more than %d parts", maxParts))
		yield(storage.Upload{}, f.fault)
	}
}

// errFormEnd: the form's last boundary has been read.
var errFormEnd = errors.New("end of form")

// next reads up to the body of the next part. ok is false for a part that is no
// file. A body that ends before its last boundary is malformed.
func (f *form) next() (u storage.Upload, ok bool, err error) {
	f.budget.arm(true)
	part, err := f.parts.NextPart()
	f.budget.arm(false)
	if err == io.EOF { //nolint:errorlint // wrapped, it means a truncated body
		return u, false, errFormEnd
	}
	if err != nil {
		return u, false, malformed(err)
	}
	disposition, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	if err != nil {
		return u, false, errMalformedPartHeader.because(err)
	}
	if params["name"] != filesField {
		return u, false, skip(part)
	}
	name := params["filename"]
	if disposition != "form-data" || name == "" {
		n, err := part.Read(make([]byte, 1))
		switch {
		case n > 0 || disposition != "form-data":
			return u, false, errMalformedPartHeader.because(fmt.Errorf("part %q without a file name", filesField))
		case !errors.Is(err, io.EOF):
			return u, false, malformed(err)
		}
		return u, false, nil // an empty file input of a browser
	}
	if len(f.names) == storage.MaxFilesPerBatch {
		return u, false, errTooManyFiles
	}
	// Browsers may send a path; slashes alone separate, on every system.
	name = path.Base(name)
	f.names = append(f.names, name)
	f.current = &filePart{body: part}
	return storage.Upload{
		Filename: storage.SanitizeFilename(name),
		MIMEType: storage.ReduceMIMEType(part.Header.Get("Content-Type")),
		Body:     f.current,
	}, true, nil
}

// skip reads a part that is ignored, so that what follows is a header again.
func skip(part io.Reader) error {
	if _, err := io.Copy(io.Discard, part); err != nil {
		return malformed(err)
	}
	return nil
}

// malformed is the reply for a body that cannot be read on.
func malformed(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errBodyTooSlow.because(err)
	}
	return errMalformedMultipart.because(err)
}

// filePart is the body of a file; it remembers how much there was and what
// ended it.
type filePart struct {
	body io.Reader
	size int64
	err  error // nil, or why it could not be read to its end
}

func (p *filePart) Read(b []byte) (int, error) {
	n, err := p.body.Read(b)
	p.size += int64(n)
	if err != nil && err != io.EOF { //nolint:errorlint // io.Reader's contract
		p.err = err
	}
	return n, err
}

// overCap reports that the body went beyond the request cap.
func (f *form) overCap() bool { return f.capped.over }

// failed is the reply for what was wrong with the body, nil if nothing was.
func (f *form) failed() error {
	if f.fault == nil && f.current != nil && f.current.err != nil {
		f.fault = malformed(f.current.err)
	}
	return f.fault
}

// name is the file's name as received.
func (f *form) name(index int) string {
	if index < 0 || index >= len(f.names) {
		return ""
	}
	return f.names[index]
}

// sizeOfCurrent reads the latest file to its end, as far as the request cap
// allows, to tell the size of one that is above the per-file cap. Where the end
// is not reached it is what was seen, at least cap+1.
func (f *form) sizeOfCurrent(fileCap int64) int64 {
	if f.current == nil {
		return fileCap + 1
	}
	// Whatever ends the reading, the bytes seen so far are the answer.
	_, _ = io.Copy(io.Discard, f.current)
	return max(f.current.size, fileCap+1)
}
