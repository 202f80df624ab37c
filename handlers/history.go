package handlers

import (
	"net/http"
	"time"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/metadata"
)

// chatHistory answers GET /workspaces/{id}/chat-history: the chat of a
// workspace with its user. limit counts rows of the feed that show something; a
// row that holds a question and its answer makes two messages.
func (s *Server) chatHistory(w http.ResponseWriter, r *http.Request) error {
	id, err := pathWorkspace(r)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	var before *time.Time
	if text := query.Get("before_ts"); text != "" {
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return errBadBefore.because(err)
		}
		before = &t
	}
	entries, end, err := s.cfg.Activity.History(r.Context(), id, before, feedLimit(query.Get("limit")))
	if err != nil {
		return errQuery.because(err)
	}
	reply := wire.History{Messages: []wire.ChatMessage{}, ReachedEnd: end}
	for _, e := range entries {
		reply.Messages = append(reply.Messages, bubbles(e)...)
	}
	return s.writeJSON(w, r, http.StatusOK, reply)
}

// bubbles is what an entry shows: what the user said, then what the agent did.
func bubbles(e metadata.Entry) []wire.ChatMessage {
	var out []wire.ChatMessage
	add := func(role, text string, files []wire.ChatFile) {
		if text == "" && len(files) == 0 {
			return
		}
		out = append(out, wire.ChatMessage{
			ID: e.ID.String() + ":" + role, Role: role, Content: text, Attachments: files, Timestamp: wireTime(e.CreatedAt),
		})
	}
	text, files := userSide(e.RequestBody)
	add("user", text, files)
	text, files = agentSide(e.ResponseBody)
	add("agent", text, files)
	return out
}
