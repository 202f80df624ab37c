package handlers

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// touchTimeout bounds the note that a token was used, which nothing waits for
// more than this.
const touchTimeout = 2 * time.Second

// caller is who sent a request: the administrator, or the owner of a token.
type caller struct {
	admin bool
	token metadata.Token // zero for the administrator
}

type callerKey struct{}

// callerOf returns who passed the guard of the request's route; ok is false on
// routes without one.
func callerOf(r *http.Request) (c caller, ok bool) {
	c, ok = r.Context().Value(callerKey{}).(caller)
	return c, ok
}

// bearer returns the token of the Authorization header. The scheme word is
// case-sensitive, the token is trimmed (contract 2.1).
func bearer(r *http.Request) (token string, ok bool) {
	token, ok = strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	token = strings.TrimSpace(token)
	return token, ok && token != ""
}

// isAdmin compares in constant time. Digests are compared, so that not even the
// length of the configured token shows.
func (s *Server) isAdmin(token string) bool {
	if s.cfg.AdminToken == "" {
		return false
	}
	have, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(s.cfg.AdminToken))
	return subtle.ConstantTimeCompare(have[:], want[:]) == 1
}

// authenticate says whose token it is. It returns errInvalidWorkspaceToken for
// one that is unknown, revoked or of a removed workspace, and
// errPlatformUnavailable when that cannot be found out.
func (s *Server) authenticate(ctx context.Context, token string) (caller, error) {
	if s.isAdmin(token) {
		return caller{admin: true}, nil
	}
	lookup, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	tok, err := s.cfg.Tokens.Resolve(lookup, token)
	switch {
	case errors.Is(err, metadata.ErrTokenNotFound):
		return caller{}, errInvalidWorkspaceToken
	case err != nil:
		return caller{}, errPlatformUnavailable.because(err)
	}
	s.touch(ctx, tok)
	return caller{token: tok}, nil
}

// touch notes the use of a token. Failing to is no reason to fail a request.
// One that was noted within a minute is not noted again, which saves most
// requests a statement; the statement itself goes by the database's clock.
func (s *Server) touch(ctx context.Context, tok metadata.Token) {
	if tok.LastUsedAt != nil && time.Since(*tok.LastUsedAt).Abs() < time.Minute {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), touchTimeout)
	defer cancel()
	if err := s.cfg.Tokens.Touch(ctx, tok.ID); err != nil {
		s.log.LogAttrs(ctx, slog.LevelDebug, "token use not recorded",
			slog.String("workspace_id", tok.WorkspaceID.String()), slog.Any("error", err))
	}
}

// guarded wraps a route's handler in its guard, and both in the time that an
// answer may take.
func (s *Server) guarded(rt route) handlerFunc {
	handle := rt.handle
	switch rt.guard {
	case guardWorkspace:
		handle = s.withCaller(s.workspaceCaller, handle)
	case guardAdmin:
		handle = s.withCaller(s.adminCaller, handle)
	}
	if rt.flags&long != 0 {
		return handle
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Timeouts.Answer)
		defer cancel()
		return handle(w, r.WithContext(ctx))
	}
}

func (s *Server) withCaller(check func(*http.Request) (caller, error), next handlerFunc) handlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		c, err := check(r)
		if err != nil {
			return err
		}
		return next(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, c)))
	}
}

// workspaceCaller is the workspace guard. It runs before any check of the
// path's ids, so an id that is no UUID is simply not the token's (401); only
// the administrator gets far enough to be told that it is malformed.
func (s *Server) workspaceCaller(r *http.Request) (caller, error) {
	token, ok := bearer(r)
	if !ok {
		return caller{}, errMissingWorkspaceToken
	}
	c, err := s.authenticate(r.Context(), token)
	if err != nil || c.admin {
		return c, err
	}
	// Parsed values are compared: the path may spell the id in any way.
	id, err := storage.ParseWorkspaceID(r.PathValue("id"))
	if err != nil || id != c.token.WorkspaceID {
		return caller{}, errInvalidWorkspaceToken
	}
	return c, nil
}

// adminCaller is the admin guard: the admin token alone, and nobody where none
// is configured.
func (s *Server) adminCaller(r *http.Request) (caller, error) {
	token, ok := bearer(r)
	if !ok {
		return caller{}, errMissingAdminToken
	}
	if !s.isAdmin(token) {
		return caller{}, errInvalidAdminToken
	}
	return caller{admin: true}, nil
}

// pathWorkspace reads the path's {id}.
func pathWorkspace(r *http.Request) (storage.WorkspaceID, error) {
	id, err := storage.ParseWorkspaceID(r.PathValue("id"))
	if err != nil {
		return id, errInvalidWorkspaceID.because(err)
	}
	return id, nil
}

// pathFile reads the path's {id} and {fid}, in this order.
func pathFile(r *http.Request) (storage.WorkspaceID, storage.FileID, error) {
	ws, err := pathWorkspace(r)
	if err != nil {
		return ws, storage.FileID{}, err
	}
	f, err := storage.ParseFileID(r.PathValue("fid"))
	if err != nil {
		return ws, f, errInvalidFileID.because(err)
	}
	return ws, f, nil
}
