package handlers

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// sharedBody is a request's body lent to an http.Client, whose transport may
// read on in a goroutine of its own after its reply is there. After end it
// reads no more, so the connection is the handler's again.
type sharedBody struct {
	body io.Reader
	rc   *http.ResponseController

	mu    sync.Mutex
	ended bool
}

func (b *sharedBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.body.Read(p)
}

// Close is the transport's and leaves the connection alone.
func (b *sharedBody) Close() error { return nil }

// end takes the body back. A read that waits for the client is woken.
func (b *sharedBody) end() {
	if !b.mu.TryLock() {
		_ = b.rc.SetReadDeadline(time.Now()) // without it the wait is merely longer
		b.mu.Lock()
	}
	b.ended = true
	b.mu.Unlock()
}
