package handlers

import (
	"net/http"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/storage"
)

// workspaceHeader names the workspace that a caller speaks for.
const workspaceHeader = "X-Workspace-ID"

// listPeers answers GET /registry/{id}/peers: siblings, parent and children.
func (s *Server) listPeers(w http.ResponseWriter, r *http.Request) error {
	id, err := pathWorkspace(r)
	if err != nil {
		return err
	}
	if _, err := s.findWorkspace(r.Context(), id); err != nil {
		return err
	}
	peers, err := s.cfg.Workspaces.Peers(r.Context(), id)
	if err != nil {
		return err
	}
	list := make([]wire.Workspace, 0, len(peers))
	for _, peer := range peers {
		list = append(list, publicWorkspace(peer))
	}
	return s.writeJSON(w, r, http.StatusOK, list)
}

// discover answers GET /registry/discover/{id} to a workspace that names itself
// in a header and may talk to the one it asks for.
func (s *Server) discover(w http.ResponseWriter, r *http.Request) error {
	token, sent := bearer(r)
	if !sent {
		return errMissingWorkspaceToken
	}
	c, err := s.authenticate(r.Context(), token)
	if err != nil {
		return err
	}
	asker, err := storage.ParseWorkspaceID(r.Header.Get(workspaceHeader))
	if err != nil {
		return errWorkspaceHeader.because(err)
	}
	if !c.admin && c.token.WorkspaceID != asker {
		return errInvalidWorkspaceToken
	}
	id, err := pathWorkspace(r)
	if err != nil {
		return err
	}
	if !c.admin {
		related, err := s.cfg.Workspaces.Related(r.Context(), asker, id)
		if err != nil {
			return err
		}
		if !related {
			return errHierarchy
		}
	}
	ws, err := s.findWorkspace(r.Context(), id)
	if err != nil {
		return err
	}
	return s.writeJSON(w, r, http.StatusOK, publicWorkspace(ws))
}
