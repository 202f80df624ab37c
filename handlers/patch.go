package handlers

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// codeBadParent is the code of a parent_id that is no id.
const codeBadParent = "WORKSPACE_REPARENT_INVALID_PARENT"

// codeNoWorkspace is the code of a workspace that is not there to be moved.
const codeNoWorkspace = "WORKSPACE_REPARENT_WORKSPACE_NOT_FOUND"

// patchWorkspace answers PATCH /workspaces/{id}. A workspace may rename itself;
// its place in the hierarchy, which decides who may talk to it, is the
// administrator's alone, and so is whether it may write to its user.
func (s *Server) patchWorkspace(w http.ResponseWriter, r *http.Request) error {
	var members map[string]json.RawMessage
	if err := readJSON(r, &members); err != nil {
		return badBody(err, errInvalidBody)
	}
	if members == nil {
		return errInvalidBody // null
	}
	id, err := pathWorkspace(r)
	if err != nil {
		return err
	}
	parent, reparent := members["parent_id"]
	change, err := workspaceUpdate(members)
	if err != nil {
		return err
	}
	c, _ := callerOf(r)
	if !c.admin && (reparent || change.TalkToUser != nil) {
		return errInfrastructureAuth
	}
	if reparent && change != (metadata.WorkspaceUpdate{}) {
		return errReparentAlone
	}
	if reparent {
		return s.reparent(w, r, id, parent)
	}
	switch err := s.cfg.Workspaces.Update(r.Context(), id, change); {
	case errors.Is(err, metadata.ErrNameTaken):
		return errNameTaken.because(err)
	case errors.Is(err, metadata.ErrInvalidJSON):
		return errInvalidBody.because(err)
	case err != nil:
		return err
	}
	return s.writeJSON(w, r, http.StatusOK, wire.PatchedWorkspace{Status: "updated"})
}

func workspaceUpdate(members map[string]json.RawMessage) (metadata.WorkspaceUpdate, error) {
	var change metadata.WorkspaceUpdate
	if raw, ok := members["name"]; ok {
		name, isString := asString(raw)
		if name = strings.TrimSpace(name); !isString || name == "" {
			return change, errNameRequired
		}
		change.Name = &name
	}
	if raw, ok := members["talk_to_user_enabled"]; ok {
		var enabled *bool
		if json.Unmarshal(raw, &enabled) != nil || enabled == nil {
			return change, errInvalidBody
		}
		change.TalkToUser = enabled
	}
	return change, nil
}

func (s *Server) reparent(w http.ResponseWriter, r *http.Request, id storage.WorkspaceID, raw json.RawMessage) error {
	var parent *storage.WorkspaceID
	if !absent(raw) {
		text, _ := asString(raw)
		p, err := storage.ParseWorkspaceID(text)
		if err != nil {
			return errParentID.with("code", codeBadParent).because(err)
		}
		parent = &p
	}
	_, err := s.cfg.Workspaces.Reparent(r.Context(), id, parent)
	var refused *metadata.ReparentError
	switch {
	case errors.As(err, &refused):
		return reparentFailure(refused.Code).with("code", refused.Code).because(err)
	case errors.Is(err, storage.ErrWorkspaceNotFound):
		return errWorkspaceNotFound.with("code", codeNoWorkspace).because(err)
	case err != nil:
		return err
	}
	return s.writeJSON(w, r, http.StatusOK, wire.PatchedWorkspace{Status: "updated", Reparented: parent != nil})
}

func reparentFailure(code string) *failure {
	switch code {
	case metadata.ReparentSelf:
		return errReparentSelf
	case metadata.ReparentNoParent:
		return errReparentNoParent
	case metadata.ReparentRootPromotion:
		return errReparentRoot
	case metadata.ReparentNameTaken:
		return errNameTaken
	}
	return errReparentCycle
}
