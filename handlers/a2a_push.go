package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/molecule-ai/pendinguploads/handlers/outbound"
	"github.com/molecule-ai/pendinguploads/metadata"
)

// recordTimeout bounds the note of a dispatched message, which outlives the
// request: the workspace has the message whether or not the sender still waits.
const recordTimeout = 10 * time.Second

// dispatched is what came of a message to a push-mode workspace.
type dispatched struct {
	status      int
	contentType string
	body        []byte
}

// dispatchMessage calls the workspace, records the exchange and relays the
// reply.
func (s *Server) dispatchMessage(w http.ResponseWriter, r *http.Request, ws metadata.Workspace, from sender, msg a2aMessage) error {
	if ws.URL == "" {
		return errNoURL
	}
	start := time.Now()
	reply, err := s.callAgent(r.Context(), ws, msg)
	s.recordDispatch(r.Context(), ws, messageEntry(ws, from, msg), reply, err, time.Since(start))
	if err != nil {
		return err
	}
	h := w.Header()
	h["Content-Type"] = nil
	if reply.contentType != "" {
		h.Set("Content-Type", reply.contentType)
	}
	w.WriteHeader(reply.status)
	if _, err := s.slowGuard(w, r).Write(reply.body); err != nil {
		s.log.LogAttrs(r.Context(), slog.LevelDebug, "agent's reply not delivered",
			slog.String("workspace_id", ws.ID.String()), slog.Any("error", err))
	}
	return nil
}

// callAgent posts the message to the workspace's URL. No credentials go along:
// the caller's are its own, and the inbound secret is for internal routes.
func (s *Server) callAgent(ctx context.Context, ws metadata.Workspace, msg a2aMessage) (dispatched, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, ws.URL, bytes.NewReader(msg.Envelope))
	if err != nil {
		return dispatched{}, errNotRoutable.because(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.outbound.Do(req)
	switch {
	case errors.Is(err, outbound.ErrNotAllowed):
		return dispatched{}, errNotRoutable.because(err)
	case err != nil:
		return dispatched{}, errUnreachable.because(err)
	}
	defer func() { _ = resp.Body.Close() }() // read as far as wanted
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		return dispatched{}, errReplyRedirect.because(fmt.Errorf("status %d", resp.StatusCode))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, a2aBodyBytes+1))
	switch {
	case err != nil:
		return dispatched{}, errUnreachable.because(err)
	case len(body) > a2aBodyBytes:
		return dispatched{}, errReplyTooLarge
	}
	return dispatched{resp.StatusCode, resp.Header.Get("Content-Type"), body}, nil
}

// recordDispatch adds the exchange to the feed. What it says to a canvas that
// waits is the status, or a duration that is not zero.
func (s *Server) recordDispatch(ctx context.Context, ws metadata.Workspace, entry metadata.NewEntry, reply dispatched, failed error, took time.Duration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	ms := max(int(took.Milliseconds()), 1)
	entry.DurationMS = &ms
	detail := ""
	switch {
	case failed != nil:
		detail = failureOf(failed).text
	case reply.status >= http.StatusBadRequest:
		detail = fmt.Sprintf("workspace answered with status %d", reply.status)
	}
	if detail != "" {
		entry.Status, entry.ErrorDetail = "error", &detail
	}
	if json.Valid(reply.body) {
		entry.ResponseBody = reply.body
	}
	request, response := entry.RequestBody, entry.ResponseBody
	_, err := s.cfg.Activity.Append(ctx, ws.ID, entry)
	// The exchange took place; that one of its texts cannot be stored does not undo
	// it, nor take the other one along.
	for _, bodies := range [][2]json.RawMessage{{request, nil}, {nil, response}, {nil, nil}} {
		if !errors.Is(err, metadata.ErrInvalidJSON) {
			break
		}
		s.log.LogAttrs(ctx, slog.LevelWarn, "dispatched message has a body that cannot be stored",
			slog.String("workspace_id", ws.ID.String()), slog.Any("error", err))
		entry.RequestBody, entry.ResponseBody = bodies[0], bodies[1]
		_, err = s.cfg.Activity.Append(ctx, ws.ID, entry)
	}
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelError, "dispatched message not recorded",
			slog.String("workspace_id", ws.ID.String()), slog.Any("error", err))
	}
}
