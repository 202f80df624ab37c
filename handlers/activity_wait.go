package handlers

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// maxWait is what wait is capped at: what load balancers let pass in silence.
const maxWait = time.Minute

// parseWait reads a duration, or a number of seconds. A parameter that is there
// but empty counts as absent.
func parseWait(p string) (time.Duration, error) {
	if p == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(p, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(n, uint64(maxWait/time.Second))) * time.Second, nil
	}
	d, err := time.ParseDuration(p)
	if err != nil || d < 0 {
		return 0, errBadWait.because(err)
	}
	return min(d, maxWait), nil
}

// bell is a Waiter for a goroutine.
type bell struct {
	rung  chan struct{}
	ended chan struct{}
}

func newBell() bell { return bell{make(chan struct{}, 1), make(chan struct{}, 1)} }

// Wake implements metadata.Waiter.
func (b bell) Wake() { ring(b.rung) }

// End implements metadata.Waiter.
func (b bell) End() { ring(b.ended) }

func ring(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// awaitPage reads a page. One that is empty it reads again whenever the feed has
// grown, until there is something in it, the wait is over, or the server shuts
// down. errInvalidWorkspaceToken when the caller's token is revoked meanwhile.
func (s *Server) awaitPage(r *http.Request, ws storage.WorkspaceID, q metadata.Query, wait time.Duration) ([]metadata.Entry, error) {
	if wait <= 0 || s.cfg.Watch == nil {
		return s.cfg.Activity.Page(r.Context(), ws, q)
	}
	c, _ := callerOf(r)
	b := newBell()
	sub := s.cfg.Watch.Subscribe(ws, c.token.ID, b)
	defer sub.Close()
	s.feed.waits.Inc()
	defer s.feed.waits.Dec()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		entries, head, err := s.cfg.Activity.PageHead(r.Context(), ws, q)
		if err != nil || len(entries) > 0 {
			return entries, err
		}
		sub.Advance(head)
		select {
		case <-b.rung:
		case <-b.ended:
			if !c.admin {
				return nil, errInvalidWorkspaceToken
			}
			return entries, nil
		case <-timer.C:
			return entries, nil
		case <-s.stopping():
			return entries, nil
		case <-r.Context().Done():
			return entries, nil
		}
	}
}
