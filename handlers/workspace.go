package handlers

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads/handlers/outbound"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// Status of a workspace, contract 4.4, as far as this package sets it.
const (
	statusOnline   = "online"
	statusAwaiting = "awaiting_agent"
)

// publicWorkspace is what anybody may know.
func publicWorkspace(ws metadata.Workspace) wire.Workspace {
	out := wire.Workspace{
		ID:           ws.ID.String(),
		Name:         ws.Name,
		Status:       ws.Status,
		Tier:         ws.Tier,
		Kind:         ws.Kind,
		Runtime:      ws.Runtime,
		URL:          ws.URL,
		ParentID:     optionalID((*uuid.UUID)(ws.ParentID)),
		DeliveryMode: ws.DeliveryMode,
		AgentCard:    ws.AgentCard,
		ActiveTasks:  ws.ActiveTasks,
		CreatedAt:    wireTime(ws.CreatedAt),
	}
	if ws.Role != "" {
		out.Role = &ws.Role
	}
	if ws.LastHeartbeatAt != nil {
		at := wireTime(*ws.LastHeartbeatAt)
		out.LastHeartbeatAt = &at
	}
	return out
}

func wireTime(t time.Time) string { return t.UTC().Format(wire.TimeFormat) }

// getWorkspace answers GET /workspaces/{id} to anybody.
func (s *Server) getWorkspace(w http.ResponseWriter, r *http.Request) error {
	id, err := pathWorkspace(r)
	if err != nil {
		return err
	}
	ws, err := s.cfg.Workspaces.Get(r.Context(), id)
	if err != nil {
		return err
	}
	if ws.Removed() && r.URL.Query().Get("include_removed") != "true" {
		gone := errWorkspaceRemoved.with("id", id.String()).
			with("hint", "the workspace was deleted; add include_removed=true to see what is left of it")
		if ws.RemovedAt != nil {
			gone = gone.with("removed_at", wireTime(*ws.RemovedAt))
		}
		return gone
	}
	return s.writeJSON(w, r, http.StatusOK, publicWorkspace(ws))
}

// listWorkspaces answers GET /workspaces to the administrator.
func (s *Server) listWorkspaces(w http.ResponseWriter, r *http.Request) error {
	all, err := s.cfg.Workspaces.List(r.Context(), false)
	if err != nil {
		return err
	}
	list := make([]wire.Workspace, 0, len(all))
	for _, ws := range all {
		list = append(list, publicWorkspace(ws))
	}
	return s.writeJSON(w, r, http.StatusOK, list)
}

// createWorkspace answers POST /workspaces. Who gets which token is the
// contract's (2.17): an external workspace without a URL has to be connected by
// hand, with a token that closes its bootstrap; one with a URL bootstraps by
// registering; an ordinary one gets a token for its administrator.
func (s *Server) createWorkspace(w http.ResponseWriter, r *http.Request) error {
	var req wire.CreateWorkspace
	if err := readJSON(r, &req); err != nil {
		return badBody(err, errInvalidBody)
	}
	row, err := s.newWorkspace(r, req)
	if err != nil {
		return err
	}
	external := req.External || isExternal(req.Runtime)
	kind := metadata.TokenAPI
	switch {
	case external && req.URL == "":
		kind = metadata.TokenInstance
		row.Status = statusAwaiting
	case external:
		kind = ""
	}
	if external && row.Runtime == "" {
		row.Runtime = runtimeExternal
	}
	ws, token, err := s.cfg.Workspaces.Create(r.Context(), row, kind)
	switch {
	case errors.Is(err, storage.ErrWorkspaceNotFound):
		return errParentNotFound.because(err)
	case errors.Is(err, metadata.ErrNameTaken):
		return errNameTaken.because(err)
	case errors.Is(err, metadata.ErrInvalidJSON):
		return unstorable(err, errInvalidBody)
	case err != nil:
		return err
	}
	reply := wire.CreatedWorkspace{ID: ws.ID.String(), Name: ws.Name, External: external, Status: ws.Status}
	switch kind {
	case metadata.TokenInstance:
		reply.Connection = &wire.Connection{WorkspaceID: reply.ID, PlatformURL: s.baseURL(r), AuthToken: token}
	case metadata.TokenAPI:
		reply.AuthToken = token
	}
	return s.writeJSON(w, r, http.StatusCreated, reply)
}

// newWorkspace checks what is to be created.
func (s *Server) newWorkspace(r *http.Request, req wire.CreateWorkspace) (metadata.NewWorkspace, error) {
	row := metadata.NewWorkspace{
		Name: strings.TrimSpace(req.Name), Role: req.Role, Tier: int(req.Tier), Runtime: req.Runtime,
		URL: req.URL, DeliveryMode: req.DeliveryMode,
	}
	switch {
	case row.Name == "":
		return row, errNameRequired
	case row.DeliveryMode != "" && row.DeliveryMode != modePoll && row.DeliveryMode != modePush:
		return row, errBadMode
	case row.Tier < 0:
		return row, errInvalidBody
	}
	if !absent(req.AgentCard) {
		if _, ok := asObject(req.AgentCard); !ok {
			return row, errInvalidBody
		}
		row.AgentCard = req.AgentCard
	}
	if req.ParentID != nil && *req.ParentID != "" {
		parent, err := storage.ParseWorkspaceID(*req.ParentID)
		if err != nil {
			return row, errParentNotFound.because(err)
		}
		row.ParentID = &parent
	}
	if row.URL == "" {
		return row, nil
	}
	row.Status = statusOnline
	if row.DeliveryMode == modePoll {
		return row, nil
	}
	if err := s.outbound.CheckRegistration(r.Context(), row.URL); errors.Is(err, outbound.ErrNotAllowed) {
		return row, fail(http.StatusBadRequest, err.Error()).because(err)
	} else if err != nil {
		return row, err
	}
	return row, nil
}

// mintToken answers POST /admin/workspaces/{id}/tokens.
func (s *Server) mintToken(w http.ResponseWriter, r *http.Request) error {
	id, err := storage.ParseWorkspaceID(r.PathValue("id"))
	if err != nil {
		return errTokenWorkspaceID.because(err)
	}
	secret, tok, err := s.cfg.Tokens.Mint(r.Context(), id, metadata.TokenAPI)
	if err != nil {
		return err
	}
	return s.writeJSON(w, r, http.StatusCreated, wire.MintedToken{
		ID: tok.ID.String(), WorkspaceID: id.String(), Kind: tok.Kind, Prefix: tok.Prefix, AuthToken: secret,
	})
}
