package handlers

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/metadata"
)

// postActivity answers POST /workspaces/{id}/activity: a runtime reports on
// itself.
func (s *Server) postActivity(w http.ResponseWriter, r *http.Request) error {
	id, err := pathWorkspace(r)
	if err != nil {
		return err
	}
	var req wire.PostActivity
	if err := readJSON(r, &req); err != nil {
		return badBody(err, errInvalidBody)
	}
	entry, err := reportedEntry(req, uuid.UUID(id))
	if err != nil {
		return err
	}
	_, err = s.cfg.Activity.Append(r.Context(), id, entry)
	if errors.Is(err, metadata.ErrInvalidJSON) {
		return unstorable(err, errUnstorable)
	}
	if err != nil {
		return err
	}
	return s.writeJSON(w, r, http.StatusOK, wire.Status{Status: "logged"})
}

func reportedEntry(req wire.PostActivity, own uuid.UUID) (metadata.NewEntry, error) {
	// Never without a source: such a row is a person's message, and the agent
	// would answer its own report.
	entry := metadata.NewEntry{
		ActivityType: req.ActivityType, SourceID: &own, Method: req.Method, Summary: req.Summary,
		ErrorDetail: req.ErrorDetail, Status: req.Status,
	}
	if !slices.Contains([]string{"a2a_send", "a2a_receive", "task_update", "agent_log", "skill_promotion", "memory_write", "error"}, req.ActivityType) {
		return entry, errBadActivityType
	}
	if req.SourceID != "" {
		if source, err := uuid.Parse(req.SourceID); err != nil || source != own {
			return entry, errForeignSource
		}
	}
	if req.TargetID != "" {
		target, err := uuid.Parse(req.TargetID)
		if err != nil {
			return entry, errBadTargetID.because(err)
		}
		entry.TargetID = &target
	}
	if req.DurationMS != nil {
		ms := int(*req.DurationMS)
		entry.DurationMS = &ms
	}
	entry.RequestBody = present(req.RequestBody)
	if entry.RequestBody == nil {
		entry.RequestBody = present(req.Metadata)
	}
	entry.ResponseBody = present(req.ResponseBody)
	return entry, nil
}

// present is the value, or nil for null.
func present(raw json.RawMessage) json.RawMessage {
	if absent(raw) {
		return nil
	}
	return raw
}
