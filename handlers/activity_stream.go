package handlers

import (
	"context"
	"errors"
	"net/http"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// streamActivity answers GET /workspaces/{id}/activity/stream: the feed as
// server-sent events, one for each entry, whose id is the entry's and whose data
// is its row of the poll. It has the poll's filters. It begins after the entry of
// the Last-Event-ID header or of since_id; else with the entries of the last
// since_secs, oldest first; and without any of them it sends only what commits
// from now on.
//
// It ends when the server shuts down, when the token is revoked or the workspace
// removed, when the client does not take what is sent, and when entries that it
// has not sent are pruned. Nothing is lost by that: the client comes back with
// the last id that it saw.
func (s *Server) streamActivity(w http.ResponseWriter, r *http.Request) error {
	if s.cfg.Watch == nil {
		return errNotFound
	}
	ws, err := pathWorkspace(r)
	if err != nil {
		return err
	}
	params := r.URL.Query()
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		params.Set("since_id", last)
	}
	q, err := parseFeedQuery(params)
	if err != nil {
		return err
	}
	st := s.newFeedStream(r, ws, q)
	if err := s.locate(st, r, q); err != nil {
		st.end()
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // proxies would hold events back
	return st.serve(w, r)
}

// locate finds out where the stream begins. The stream is subscribed by then, so
// what commits from here on wakes it.
func (s *Server) locate(st *feedStream, r *http.Request, q metadata.Query) error {
	ctx, cancel := context.WithTimeout(r.Context(), lookupTimeout)
	defer cancel()
	if c, _ := callerOf(r); c.admin {
		if _, err := s.findWorkspace(ctx, st.ws); err != nil {
			if errors.Is(err, errWorkspaceNotFound) || errors.Is(err, storage.ErrWorkspaceNotFound) {
				return errWorkspaceNotFound
			}
			return errQuery.because(err)
		}
	}
	var err error
	st.position, st.head, err = s.cfg.Activity.Position(ctx, st.ws, q)
	switch {
	case errors.Is(err, metadata.ErrCursorNotFound):
		return errCursorGone.because(err)
	case err != nil:
		return errQuery.because(err)
	}
	return nil
}
