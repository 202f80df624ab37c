package inbox_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/client/inbox"
)

// events collects what an inbox says.
type events struct {
	t        *testing.T
	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at each event
	files    []inbox.File
	messages []inbox.Message
	troubles []error
}

func newEvents(t *testing.T) *events { return &events{t: t, changed: make(chan struct{})} }

func (e *events) add(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
	close(e.changed)
	e.changed = make(chan struct{})
}

// until waits for a condition on what was said.
func (e *events) until(what string, done func() bool) {
	e.t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	for {
		e.mu.Lock()
		ok, changed := done(), e.changed
		e.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			e.mu.Lock()
			defer e.mu.Unlock()
			e.t.Fatalf("in vain waited until %s; files %+v, messages %d, troubles %v", what, e.files, len(e.messages), e.troubles)
		}
	}
}

// snapshot is what was said so far.
func (e *events) snapshot() (files []inbox.File, messages []inbox.Message, troubles []error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.files), slices.Clone(e.messages), slices.Clone(e.troubles)
}

// texts of the messages so far; the caller holds the lock or is alone.
func (e *events) texts() []string {
	var all []string
	for _, m := range e.messages {
		all = append(all, m.Text)
	}
	return all
}
