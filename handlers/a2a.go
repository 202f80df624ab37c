package handlers

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

const (
	// a2aMemory bounds the bodies of chat messages that are in memory at a time,
	// in bytes; further requests wait for their turn.
	a2aMemory = 8 * a2aBodyBytes
	// a2aPatience is how long they wait.
	a2aPatience = 5 * time.Second
)

// sender is who sends a message: a person through the canvas, which is what the
// administrator counts as, or the agent of a workspace.
type sender struct {
	canvas bool
	id     *uuid.UUID // nil for the canvas, unless it says for whom it speaks
}

// a2a answers POST /workspaces/{id}/a2a. The order of the checks is the
// contract's (2.9).
func (s *Server) a2a(w http.ResponseWriter, r *http.Request) error {
	r.Body = io.NopCloser(s.slowReader(w, r.Body))
	if r.ContentLength > a2aBodyBytes {
		return tooLarge(r, a2aBodyBytes)
	}
	from, err := s.admit(r)
	if err != nil {
		if r.ContentLength < 0 {
			// Whether it is too large comes first, and shows only at its end.
			if n, _ := io.CopyN(io.Discard, r.Body, a2aBodyBytes+1); n > a2aBodyBytes {
				return tooLarge(r, a2aBodyBytes)
			}
		}
		return err
	}
	release, err := s.reserveMessage(r)
	if err != nil {
		return err
	}
	defer release()
	body, err := readBody(r, a2aBodyBytes)
	if err != nil {
		return err
	}
	id, idErr := storage.ParseWorkspaceID(r.PathValue("id"))
	msg, err := normaliseA2A(body, from.canvas, id)
	switch {
	case errors.Is(err, errNotObject) && from.canvas:
		return errInvalidA2A.because(err)
	case errors.Is(err, errNotObject):
		return errInvalidJSON.because(err)
	case err != nil:
		return fail(http.StatusBadRequest, err.Error())
	case idErr != nil:
		return errInvalidWorkspaceID.because(idErr)
	}
	ws, err := s.messageTarget(r.Context(), id)
	if err != nil {
		return err
	}
	if ws.DeliveryMode == modePoll {
		return s.queueMessage(w, r, ws, from, msg)
	}
	return s.dispatchMessage(w, r, ws, from, msg)
}

// admit says who the sender is and whether it may talk to the target.
func (s *Server) admit(r *http.Request) (sender, error) {
	from, err := s.sender(r)
	if err != nil || from.canvas {
		return from, err
	}
	target, err := storage.ParseWorkspaceID(r.PathValue("id"))
	if err != nil {
		return from, errHierarchy.because(err)
	}
	related, err := s.cfg.Workspaces.Related(r.Context(), storage.WorkspaceID(*from.id), target)
	switch {
	case err != nil:
		return from, errTargetLookup.because(err)
	case !related:
		return from, errHierarchy
	}
	return from, nil
}

// sender authenticates. There is no session to tell a person at the canvas from
// anybody else, so a request without a token is nobody's, wherever it says it
// comes from.
func (s *Server) sender(r *http.Request) (sender, error) {
	claimed := r.Header.Get(workspaceHeader)
	for _, prefix := range []string{"webhook:", "system:", "test:", "channel:"} {
		if strings.HasPrefix(claimed, prefix) {
			return sender{}, errCallerID
		}
	}
	token, sent := bearer(r)
	if !sent {
		return sender{}, errMissingCallerToken
	}
	c, err := s.authenticate(r.Context(), token)
	switch {
	case errors.Is(err, errInvalidWorkspaceToken):
		return sender{}, errInvalidCallerToken
	case err != nil:
		return sender{}, err
	}
	claim, claimErr := uuid.Parse(claimed)
	if c.admin {
		switch {
		case claimed == "":
			return sender{canvas: true}, nil
		case claimErr != nil:
			return sender{}, errCallerNotUUID.because(claimErr)
		}
		return sender{canvas: true, id: &claim}, nil
	}
	owner := uuid.UUID(c.token.WorkspaceID)
	if claimed != "" && (claimErr != nil || claim != owner) {
		return sender{}, errCallerMismatch
	}
	return sender{id: &owner}, nil
}

// reserveMessage waits for room in memory for the body.
func (s *Server) reserveMessage(r *http.Request) (release func(), err error) {
	size := r.ContentLength
	if size < 0 {
		size = a2aBodyBytes
	}
	ctx, cancel := context.WithTimeout(r.Context(), a2aPatience)
	defer cancel()
	if err := s.messages.Acquire(ctx, size); err != nil {
		return nil, errA2ABusy.because(err)
	}
	return func() { s.messages.Release(size) }, nil
}

// messageTarget looks up the target. Where that fails there is no way to know
// its mode, and a message must never be taken for a push one by default.
func (s *Server) messageTarget(ctx context.Context, id storage.WorkspaceID) (metadata.Workspace, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	ws, err := s.findWorkspace(ctx, id)
	switch {
	case errors.Is(err, storage.ErrWorkspaceNotFound), errors.Is(err, errWorkspaceNotFound):
		return ws, errWorkspaceNotFound.because(err)
	case err != nil:
		return ws, errTargetLookup.because(err)
	}
	return ws, nil
}

// queueMessage records the message and then says that it is queued. Neither the
// URL nor its rules matter to a workspace that polls.
func (s *Server) queueMessage(w http.ResponseWriter, r *http.Request, ws metadata.Workspace, from sender, msg a2aMessage) error {
	entry := messageEntry(ws, from, msg)
	ctx, cancel := context.WithTimeout(r.Context(), recordTimeout)
	defer cancel()
	var err error
	if msg.MessageID != "" {
		entry.MessageID = &msg.MessageID
		_, _, err = s.cfg.Activity.AppendMessage(ctx, ws.ID, entry)
	} else {
		_, err = s.cfg.Activity.Append(ctx, ws.ID, entry)
	}
	switch {
	case errors.Is(err, storage.ErrWorkspaceNotFound):
		return errWorkspaceNotFound.because(err)
	case errors.Is(err, metadata.ErrInvalidJSON):
		return unstorable(err, errUnstorable)
	case err != nil:
		return errRecordMessage.because(err)
	}
	return s.writeJSON(w, r, http.StatusOK, wire.Queued{Status: "queued", DeliveryMode: modePoll, Method: msg.Method})
}

// messageEntry is the feed row of a message.
func messageEntry(ws metadata.Workspace, from sender, msg a2aMessage) metadata.NewEntry {
	target := uuid.UUID(ws.ID)
	summary := msg.Method + " → " + ws.Name
	return metadata.NewEntry{
		ActivityType: wire.TypeA2AReceive,
		SourceID:     from.id,
		TargetID:     &target,
		Method:       &msg.Method,
		Summary:      &summary,
		RequestBody:  msg.Envelope,
		Status:       metadata.StatusOK,
	}
}
