package staging

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"

	"github.com/molecule-ai/pendinguploads/storage"
)

// meter passes a body on while it counts, hashes and enforces the cap. Once the
// body has ended, well or not, it is not touched again and done is closed: the
// next file of the batch may then be read from the same stream. A panic of the
// body becomes a failure here, so that the object store cleans up as after any
// other, and is raised again where the caller can see it.
type meter struct {
	body io.Reader
	max  int64
	hash hash.Hash
	done chan struct{}

	size int64
	end  error // sticky: io.EOF or the failure
	err  error // the failure, nil after a good end; read it after done only

	crash any // what the body panicked with; read it after done only
}

// errCrash is the failure of a body that panicked.
var errCrash = errors.New("panic while the body was read")

func newMeter(body io.Reader, max int64) *meter {
	return &meter{body: body, max: max, hash: sha256.New(), done: make(chan struct{})}
}

func (m *meter) Read(p []byte) (int, error) {
	if m.end != nil {
		return 0, m.end
	}
	n, err := m.read(p)
	m.size += int64(n)
	if m.size > m.max {
		n, err = 0, &storage.TooLargeError{Size: m.size, Max: m.max}
	}
	m.hash.Write(p[:n])
	if err != nil {
		m.end = err
		if !errors.Is(err, io.EOF) {
			m.err = err
		}
		close(m.done)
	}
	return n, err
}

func (m *meter) read(p []byte) (n int, err error) {
	defer func() {
		if m.crash = recover(); m.crash != nil {
			n, err = 0, errCrash
		}
	}()
	return m.body.Read(p)
}

// failed reports whether the body ended in an error of its own.
func (m *meter) failed() bool {
	select {
	case <-m.done:
		return m.err != nil
	default:
		return false
	}
}

func (m *meter) digest() (d storage.Digest) {
	m.hash.Sum(d[:0])
	return d
}
