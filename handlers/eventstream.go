package handlers

import (
	"io"
	"net/http"
	"time"
)

// eventStream answers GET /workspaces/{id}/events/stream: the workspace's events
// as server-sent events, one JSON object each.
func (s *Server) eventStream(w http.ResponseWriter, r *http.Request) error {
	id, err := pathWorkspace(r)
	if err != nil {
		return err
	}
	if _, err := s.findWorkspace(r.Context(), id); err != nil {
		return err
	}
	sub := s.cfg.Hub.subscribe(id)
	defer s.cfg.Hub.unsubscribe(sub)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // proxies would hold events back
	w.WriteHeader(http.StatusOK)
	s.pumpEvents(w, r, sub)
	return nil
}

func (s *Server) pumpEvents(w http.ResponseWriter, r *http.Request, sub *subscription) {
	token, _ := bearer(r)
	c, _ := callerOf(r)
	rc, out := http.NewResponseController(w), s.slowGuard(w, r)
	send := func(text string) bool {
		_, err := io.WriteString(out, text)
		return err == nil && rc.Flush() == nil
	}
	if !send(": connected\n\n") {
		return
	}
	tick := time.NewTicker(streamTick)
	defer tick.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-s.stopping():
			return
		case encoded, ok := <-sub.events:
			if !ok || !send("data: "+string(encoded)+"\n\n") {
				return
			}
		case <-tick.C:
			if !s.stillValid(r.Context(), token, c) || !send(": alive\n\n") {
				return
			}
		}
	}
}
