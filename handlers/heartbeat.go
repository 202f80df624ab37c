package handlers

import (
	"errors"
	"net/http"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// heartbeat answers POST /registry/heartbeat. An unknown or removed workspace
// gets the same 200 as others, without a secret, and changes nothing.
func (s *Server) heartbeat(w http.ResponseWriter, r *http.Request) error {
	var req wire.Heartbeat
	if err := readJSON(r, &req); err != nil {
		return badBody(err, errInvalidBody)
	}
	id, err := storage.ParseWorkspaceID(req.WorkspaceID)
	if err != nil {
		return errInvalidBody.because(err)
	}
	if err := s.mayTouch(r, id); err != nil {
		return err
	}
	beat := metadata.Heartbeat{
		ID: id, ErrorRate: req.ErrorRate, SampleError: req.SampleError,
		UptimeSeconds: (*int64)(req.UptimeSeconds), CurrentTask: req.CurrentTask,
	}
	if req.ActiveTasks != nil {
		tasks := int(*req.ActiveTasks)
		beat.ActiveTasks = &tasks
	}
	reply, err := s.cfg.Workspaces.Heartbeat(r.Context(), beat)
	switch {
	case errors.Is(err, metadata.ErrInvalidJSON):
		return unstorable(err, errInvalidBody)
	case err != nil:
		return errHeartbeat.because(err)
	}
	return s.writeJSON(w, r, http.StatusOK, wire.HeartbeatReply{
		Status: "ok", Generation: reply.Generation, InboundSecret: reply.InboundSecret,
	})
}

// updateCard answers POST /registry/update-card.
func (s *Server) updateCard(w http.ResponseWriter, r *http.Request) error {
	var req wire.UpdateCard
	if err := readJSON(r, &req); err != nil {
		return badBody(err, errInvalidBody)
	}
	id, err := storage.ParseWorkspaceID(req.WorkspaceID)
	if err != nil {
		return errInvalidBody.because(err)
	}
	if _, ok := asObject(req.AgentCard); !ok {
		return errInvalidBody
	}
	if err := s.mayTouch(r, id); err != nil {
		return err
	}
	err = s.cfg.Workspaces.UpdateCard(r.Context(), id, req.AgentCard)
	switch {
	case errors.Is(err, metadata.ErrInvalidJSON):
		return unstorable(err, errInvalidBody)
	case errors.Is(err, storage.ErrWorkspaceNotFound):
		return errWorkspaceNotFound.because(err)
	case err != nil:
		return errHeartbeat.because(err)
	}
	return s.writeJSON(w, r, http.StatusOK, wire.Status{Status: "updated"})
}
