package handlers

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// mayRegister applies the token rule of the registry (contract 2.2): a
// workspace that holds a live instance token must show one of its tokens; for
// one that holds none, anybody may speak. owner reports whether the caller did
// show a token of the workspace, or the admin token. The errors are those of
// the workspace guard, and errPlatformUnavailable when tokens cannot be looked
// up.
func (s *Server) mayRegister(r *http.Request, id storage.WorkspaceID) (owner bool, err error) {
	token, sent := bearer(r)
	if sent {
		c, err := s.authenticate(r.Context(), token)
		switch {
		case err == nil && (c.admin || c.token.WorkspaceID == id):
			return true, nil
		case err != nil && !errors.Is(err, errInvalidWorkspaceToken):
			return false, err
		}
	}
	live, err := s.cfg.Tokens.HasLiveInstance(r.Context(), id)
	if err != nil {
		return false, errPlatformUnavailable.because(err)
	}
	if live {
		return false, refuseStranger(sent)
	}
	return false, nil
}

// refuseStranger is the reply to a bearer that does not do.
func refuseStranger(sent bool) error {
	if sent {
		return errInvalidWorkspaceToken
	}
	return errMissingWorkspaceToken
}

// isJoinToken compares in constant time, as isAdmin does.
func (s *Server) isJoinToken(token string) bool {
	if s.cfg.JoinToken == "" {
		return false
	}
	have, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(s.cfg.JoinToken))
	return subtle.ConstantTimeCompare(have[:], want[:]) == 1
}

// mayTouch is the token rule for routes that change an existing workspace: like
// mayRegister, but where registration is closed, a workspace without a live
// instance token is nobody's to touch without its own token. An unknown or
// removed workspace passes; there is nothing to protect.
func (s *Server) mayTouch(r *http.Request, id storage.WorkspaceID) error {
	owner, err := s.mayRegister(r, id)
	if err != nil || owner || s.cfg.Registration == RegistrationOpen {
		return err
	}
	ws, err := s.cfg.Workspaces.Get(r.Context(), id)
	switch {
	case errors.Is(err, storage.ErrWorkspaceNotFound):
		return nil
	case err != nil:
		return errPlatformUnavailable.because(err)
	case ws.Removed():
		return nil
	}
	_, sent := bearer(r)
	return refuseStranger(sent)
}

// findWorkspace looks up a live workspace. A removed one is
// errWorkspaceNotFound like an unknown one.
func (s *Server) findWorkspace(ctx context.Context, id storage.WorkspaceID) (metadata.Workspace, error) {
	ws, err := s.cfg.Workspaces.Get(ctx, id)
	if err != nil {
		return ws, err
	}
	if ws.Removed() {
		return ws, errWorkspaceNotFound
	}
	return ws, nil
}
