package handlers

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// heartSlots is how many groups take turns at signs of life, so that they are
// spread over time and one clock is enough for all streams. More groups would
// wake an idle process more often, which costs it more than the writing.
const heartSlots = 5

// feedStreams is the streams that are open. A goroutine runs only while there
// are some.
type feedStreams struct {
	beat time.Duration // between two groups
	open prometheus.Gauge

	mu      sync.Mutex
	slots   [heartSlots]map[*feedStream]struct{}
	count   int
	next    int           // slot of the stream to come
	quit    chan struct{} // ends the goroutine; nil while none runs
	stopped bool
}

func newFeedStreams(heartbeat time.Duration, open prometheus.Gauge) *feedStreams {
	fs := &feedStreams{beat: max(heartbeat/heartSlots, time.Millisecond), open: open}
	for i := range fs.slots {
		fs.slots[i] = make(map[*feedStream]struct{})
	}
	return fs
}

// add reports false once the server shuts down.
func (fs *feedStreams) add(st *feedStream) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.stopped {
		return false
	}
	st.slot = fs.next
	fs.next = (fs.next + 1) % heartSlots
	fs.slots[st.slot][st] = struct{}{}
	fs.count++
	fs.open.Inc()
	if fs.quit == nil {
		fs.quit = make(chan struct{})
		go fs.run(fs.quit)
	}
	return true
}

// remove forgets a stream that was added.
func (fs *feedStreams) remove(st *feedStream) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	delete(fs.slots[st.slot], st)
	fs.count--
	fs.open.Dec()
	if fs.count == 0 {
		close(fs.quit)
		fs.quit = nil
	}
}

func (fs *feedStreams) run(quit <-chan struct{}) {
	tick := time.NewTicker(fs.beat)
	defer tick.Stop()
	var turn []*feedStream
	p := newPinger()
	for slot := 0; ; slot = (slot + 1) % heartSlots {
		select {
		case <-quit:
			return
		case <-tick.C:
		}
		turn = turn[:0]
		fs.mu.Lock()
		for st := range fs.slots[slot] {
			turn = append(turn, st)
		}
		fs.mu.Unlock()
		for i, st := range turn {
			st.beat(p)
			turn[i] = nil // it may end before the next turn
		}
	}
}

// stop ends all streams and lets none begin.
func (fs *feedStreams) stop() {
	fs.mu.Lock()
	fs.stopped = true
	var all []*feedStream
	for _, slot := range fs.slots {
		for st := range slot {
			all = append(all, st)
		}
	}
	fs.mu.Unlock()
	for _, st := range all {
		st.end()
	}
}
