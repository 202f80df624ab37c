package handlers

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/metadata"
)

// confirmHeader must repeat the name of the workspace to delete.
const confirmHeader = "X-Confirm-Name"

// deleteWorkspace answers DELETE /workspaces/{id}. Its tokens stop working at
// once; staged uploads outlive it until they are swept (contract 2.11).
func (s *Server) deleteWorkspace(w http.ResponseWriter, r *http.Request) error {
	id, err := pathWorkspace(r)
	if err != nil {
		return err
	}
	ws, err := s.cfg.Workspaces.Get(r.Context(), id)
	if err != nil {
		return err
	}
	if ws.Removed() {
		return errWorkspaceRemoved.with("id", id.String())
	}
	children, err := s.cfg.Workspaces.Children(r.Context(), id)
	if err != nil {
		return err
	}
	if r.Header.Get(confirmHeader) != ws.Name {
		return errConfirmName.
			with("hint", "repeat the workspace's name in the header "+confirmHeader).
			with("workspace_name", ws.Name).
			with("active_tasks", ws.ActiveTasks).
			with("child_count", len(children))
	}
	query := r.URL.Query()
	opts := metadata.RemoveOptions{Descendants: query.Get("confirm") == "true", Purge: query.Get("purge") == "true"}
	if len(children) > 0 && !opts.Descendants {
		return s.askForConfirmation(w, r, children)
	}
	cascaded, err := s.cfg.Workspaces.Remove(r.Context(), id, opts)
	switch {
	case errors.Is(err, metadata.ErrHasChildren): // one has come since
		if children, err = s.cfg.Workspaces.Children(r.Context(), id); err != nil {
			return err
		}
		return s.askForConfirmation(w, r, children)
	case errors.Is(err, metadata.ErrWorkspaceRemoved):
		return errWorkspaceRemoved.with("id", id.String()).because(err)
	case err != nil:
		return err
	}
	s.log.LogAttrs(r.Context(), slog.LevelInfo, "workspace removed",
		slog.String("workspace_id", id.String()), slog.Int("cascaded", cascaded), slog.Bool("purged", opts.Purge))
	// Streams of descendants, and those of other processes, end when their
	// tokens are checked next.
	s.cfg.Hub.drop(id)
	if s.cfg.Watch != nil {
		s.cfg.Watch.Check()
	}
	reply := wire.RemovedWorkspace{Status: "removed", CascadeDeleted: cascaded}
	if opts.Purge {
		reply.Status = "purged"
	}
	return s.writeJSON(w, r, http.StatusOK, reply)
}

func (s *Server) askForConfirmation(w http.ResponseWriter, r *http.Request, children []metadata.Workspace) error {
	refs := make([]wire.ChildRef, 0, len(children))
	for _, child := range children {
		refs = append(refs, wire.ChildRef{ID: child.ID.String(), Name: child.Name})
	}
	return s.writeJSON(w, r, http.StatusConflict, wire.ConfirmationRequired{
		Status:        "confirmation_required",
		Message:       fmt.Sprintf("the workspace has %d children; add confirm=true to delete them too", len(refs)),
		Children:      refs,
		ChildrenCount: len(refs),
	})
}
