package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/molecule-ai/pendinguploads/handlers/outbound"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// Delivery modes, contract 1.1.
const (
	modePoll = "poll"
	modePush = "push"
)

const kindPlatform = "platform"

// register answers POST /registry/register. The order of the checks is the
// contract's (2.2): a script asks with a bad mode and without credentials, and
// expects to be told of the mode.
func (s *Server) register(w http.ResponseWriter, r *http.Request) error {
	var req wire.Register
	if err := readJSON(r, &req); err != nil {
		return badBody(err, errInvalidBody)
	}
	card, isObject := asObject(req.AgentCard)
	switch {
	case req.ID == "" || !isObject:
		return errInvalidBody
	case req.DeliveryMode != "" && req.DeliveryMode != modePoll && req.DeliveryMode != modePush:
		return errBadMode
	case req.Kind != "" && req.Kind != kindPlatform && req.Kind != "workspace":
		return errBadKind
	}
	// What is no UUID is simply no workspace, until the row would be written.
	id, notUUID := storage.ParseWorkspaceID(req.ID)
	if id.IsZero() && notUUID == nil {
		// It names nothing, and stands for what is no UUID below.
		notUUID = fmt.Errorf("%w: the zero UUID is no workspace", storage.ErrInvalidID)
	}
	owner, err := s.registrant(r, id)
	if err != nil {
		return err
	}
	stored, err := s.storedWorkspace(r.Context(), id)
	if err != nil {
		return err
	}
	if req.Kind == kindPlatform && stored.Kind != kindPlatform {
		return errPlatformKind
	}
	mode := effectiveMode(req.DeliveryMode, stored)
	url := req.URL
	if mode == modePush {
		if url, err = s.callbackURL(r.Context(), url, card); err != nil {
			return err
		}
	}
	if notUUID != nil {
		return errRegister.because(notUUID)
	}
	reg, err := s.cfg.Workspaces.Register(r.Context(), metadata.Registration{
		ID: id, AgentCard: req.AgentCard, DeliveryMode: mode, URL: url, Authenticated: owner,
	})
	switch {
	case errors.Is(err, metadata.ErrTokenRequired):
		_, sent := bearer(r)
		return refuseStranger(sent)
	case errors.Is(err, metadata.ErrInvalidJSON):
		return unstorable(err, errInvalidBody)
	case err != nil:
		return errRegister.because(err)
	}
	return s.writeJSON(w, r, http.StatusOK, wire.RegisterReply{
		Status:        "registered",
		DeliveryMode:  mode,
		AuthToken:     reg.Token,
		InboundSecret: reg.InboundSecret,
	})
}

// registrant is the token step: the token rule, and where registration is
// closed, the admin token or the join token for a workspace that nobody owns.
func (s *Server) registrant(r *http.Request, id storage.WorkspaceID) (owner bool, err error) {
	owner, err = s.mayRegister(r, id)
	if errors.Is(err, errPlatformUnavailable) && s.cfg.RegisterFailOpen {
		// The registration itself checks again, in its transaction, that nobody
		// owns the workspace.
		owner, err = false, nil
	}
	if err != nil || owner || s.cfg.Registration == RegistrationOpen {
		return owner, err
	}
	token, sent := bearer(r)
	if sent && s.isJoinToken(token) {
		return false, nil
	}
	return false, refuseStranger(sent)
}

// storedWorkspace is the row there is, or the zero value.
func (s *Server) storedWorkspace(ctx context.Context, id storage.WorkspaceID) (metadata.Workspace, error) {
	ws, err := s.cfg.Workspaces.Get(ctx, id)
	if err != nil && !errors.Is(err, storage.ErrWorkspaceNotFound) {
		return ws, errRegister.because(err)
	}
	return ws, nil
}

func effectiveMode(requested string, stored metadata.Workspace) string {
	switch {
	case requested != "":
		return requested
	case stored.DeliveryMode != "":
		return stored.DeliveryMode
	case isExternal(stored.Runtime):
		return modePoll
	}
	return modePush
}

const runtimeExternal = "external"

// isExternal says that the runtime is one that runs outside the platform.
func isExternal(runtime string) bool { return strings.HasPrefix(runtime, runtimeExternal) }

// callbackURL is where a push-mode workspace wants to be called: the URL that
// it gives, else the one on its card.
func (s *Server) callbackURL(ctx context.Context, given string, card map[string]json.RawMessage) (string, error) {
	refused := func(err error) error { return fail(http.StatusBadRequest, err.Error()).because(err) }
	url := given
	if url == "" {
		url, _ = asString(card["url"])
		refused = func(err error) error { return errCardURLNotAllowed.because(err) }
	}
	if url == "" {
		return "", errURLRequired
	}
	err := s.outbound.CheckRegistration(ctx, url)
	switch {
	case errors.Is(err, outbound.ErrNotAllowed):
		return "", refused(err)
	case err != nil:
		return "", errRegister.because(err)
	}
	return url, nil
}
