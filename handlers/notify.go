package handlers

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/metadata"
)

// notifySummaryChars is how much of a message its summary repeats.
const notifySummaryChars = 80

// notify answers POST /workspaces/{id}/notify: an agent writes to its user. Its
// own poller sees the row and knows it by method and missing source.
func (s *Server) notify(w http.ResponseWriter, r *http.Request) error {
	id, err := pathWorkspace(r)
	if err != nil {
		return err
	}
	var req wire.Notify
	if err := readJSON(r, &req); err != nil {
		return badBody(err, errInvalidBody)
	}
	if req.Message == "" {
		return errMessageRequired
	}
	response := wire.NotifyResponse{Result: req.Message}
	for i, file := range req.Attachments {
		if file.URI == "" || file.Name == "" {
			return fail(http.StatusBadRequest, fmt.Sprintf("attachment[%d]: uri and name are required", i))
		}
		response.Parts = append(response.Parts, wire.ChatFilePart{Kind: "file", File: file})
	}
	ws, err := s.findWorkspace(r.Context(), id)
	if err != nil {
		return err
	}
	if !ws.TalkToUser {
		return errTalkDisabled
	}
	method, summary := wire.MethodNotify, notifySummary(req.Message)
	_, err = s.cfg.Activity.Append(r.Context(), id, metadata.NewEntry{
		ActivityType: wire.TypeA2AReceive,
		Method:       &method,
		Summary:      &summary,
		ResponseBody: mustCompact(response),
	})
	if errors.Is(err, metadata.ErrInvalidJSON) {
		return unstorable(err, errUnstorable)
	}
	if err != nil {
		return err
	}
	return s.writeJSON(w, r, http.StatusOK, wire.Status{Status: "sent"})
}

func notifySummary(message string) string {
	const prefix = "Agent message: "
	chars := 0
	for i := range message {
		if chars == notifySummaryChars {
			return prefix + message[:i] + "…"
		}
		chars++
	}
	return prefix + message
}
