package handlers

import (
	"sync"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// hubQueue is how many events may wait for one consumer. One that is further
// behind is dropped: it reconnects and reads what it missed from the feed.
const hubQueue = 256

// Hub passes committed feed entries on to the canvases that are connected to
// this process. It implements metadata.Publisher.
//
// It sees only entries that were written through this process. With several
// replicas, a canvas connected to one of them does not get the events of entries
// that another one committed; it finds them in the feed and in the history.
type Hub struct {
	mu   sync.Mutex
	subs map[*subscription]struct{}
}

// NewHub returns a hub without consumers.
func NewHub() *Hub { return &Hub{subs: make(map[*subscription]struct{})} }

// subscription is one consumer: of one workspace's events, or of everybody's.
type subscription struct {
	workspace storage.WorkspaceID
	all       bool        // everybody's; workspace means nothing then
	events    chan []byte // encoded events; closed when the hub ends it
	slow      bool        // why, set before events is closed
}

func (s *subscription) wants(ws storage.WorkspaceID) bool {
	return s.all || s.workspace == ws
}

// subscribe starts a subscription to a workspace's events.
func (h *Hub) subscribe(workspace storage.WorkspaceID) *subscription {
	return h.add(&subscription{workspace: workspace})
}

// subscribeAll starts a subscription to everybody's events, for the
// administrator alone.
func (h *Hub) subscribeAll() *subscription { return h.add(&subscription{all: true}) }

func (h *Hub) add(s *subscription) *subscription {
	s.events = make(chan []byte, hubQueue)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subs[s] = struct{}{}
	return s
}

// unsubscribe ends a subscription. Doing it twice is fine.
func (h *Hub) unsubscribe(s *subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.end(s)
}

// end needs the lock.
func (h *Hub) end(s *subscription) {
	if _, ok := h.subs[s]; ok {
		delete(h.subs, s)
		close(s.events)
	}
}

// drop ends the subscriptions of a workspace, whose tokens are void now.
func (h *Hub) drop(ws storage.WorkspaceID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs {
		if !s.all && s.workspace == ws {
			h.end(s)
		}
	}
}

// Publish hands entries to everybody who wants them. It never blocks.
func (h *Hub) Publish(entries []metadata.Entry) {
	for _, entry := range entries {
		if !h.wanted(entry.WorkspaceID) {
			continue // spare the encoding
		}
		for _, e := range eventsOf(entry) {
			h.send(entry.WorkspaceID, mustCompact(e))
		}
	}
}

func (h *Hub) wanted(ws storage.WorkspaceID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs {
		if s.wants(ws) {
			return true
		}
	}
	return false
}

func (h *Hub) send(ws storage.WorkspaceID, encoded []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs {
		if !s.wants(ws) {
			continue
		}
		select {
		case s.events <- encoded:
		default:
			s.slow = true
			h.end(s)
		}
	}
}
