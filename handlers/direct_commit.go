package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/storage"
)

// commitDirect stages what was written to the object store: POST
// /workspaces/{id}/chat/uploads/direct/commit. It answers like the multipart
// route, and again with the same when it is repeated.
func (s *Server) commitDirect(w http.ResponseWriter, r *http.Request) error {
	id, err := s.directReceiver(r)
	var refusal *failure // of files that were not committed yet
	if errors.Is(err, errNoDirect) {
		refusal = errNoDirect
	} else if err != nil {
		return err
	}
	var body wire.DirectCommit
	if err := readJSON(r, &body); err != nil {
		if refusal != nil {
			return refusal.because(err)
		}
		return badBody(err, errInvalidBody)
	}
	reserved, err := openCommitToken(s.keys, body.CommitToken, id)
	switch {
	case err != nil && refusal != nil:
		return refusal.because(err)
	case err != nil:
		return err
	case refusal == nil && reserved.expired(time.Now()):
		refusal = errDirectExpired
	}
	if refusal != nil {
		// Whoever lost the answer to a commit in time may ask for it again.
		return s.answerCommitted(w, r, reserved, refusal)
	}
	records, err := s.cfg.Direct.CommitDirect(r.Context(), id, reserved.files())
	if err != nil {
		return s.commitRefused(w, r, reserved, err)
	}
	for _, rec := range records {
		s.log.LogAttrs(r.Context(), slog.LevelInfo, "upload staged", append(recordAttrs(rec), slog.Bool("direct", true))...)
	}
	return s.writeJSON(w, r, http.StatusOK, uploadReply(records))
}

// answerCommitted answers a commit that has been made before, and refuses one that
// has not.
func (s *Server) answerCommitted(w http.ResponseWriter, r *http.Request, reserved reservation, refusal *failure) error {
	records, err := s.statReserved(r.Context(), reserved)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return s.unlessCommitted(r.Context(), reserved, refusal)
	case err != nil:
		return errStage.because(err)
	}
	return s.writeJSON(w, r, http.StatusOK, uploadReply(records))
}

// statReserved are the records of files that were committed. storage.ErrNotFound
// where one of them is not there (any more).
func (s *Server) statReserved(ctx context.Context, reserved reservation) ([]storage.Record, error) {
	if s.cfg.Storage == nil {
		return nil, storage.ErrNotFound
	}
	records := make([]storage.Record, len(reserved.Files))
	for i, f := range reserved.Files {
		var err error
		if records[i], err = s.cfg.Storage.Stat(ctx, reserved.Workspace, f.ID); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// commitRefused is the reply to a commit that staged nothing itself.
func (s *Server) commitRefused(w http.ResponseWriter, r *http.Request, reserved reservation, err error) error {
	var file *storage.FileError
	named := func(f *failure) *failure {
		if errors.As(err, &file) && file.Index < len(reserved.Files) {
			f = f.with("filename", file.Filename).with("file_id", reserved.Files[file.Index].ID)
		}
		return f.because(err)
	}
	switch {
	case errors.Is(err, storage.ErrCommitted):
		return errDirectCommitted.because(err)
	case errors.Is(err, storage.ErrNotUploaded):
		return s.unlessCommitted(r.Context(), reserved, named(errNotUploaded))
	case errors.Is(err, storage.ErrMismatch):
		s.log.LogAttrs(r.Context(), slog.LevelWarn, "direct upload is not what was reserved",
			slog.String("workspace_id", reserved.Workspace.String()), slog.Any("error", err))
		return named(errContentMismatch)
	case errors.Is(err, storage.ErrReservationExpired):
		return s.unlessCommitted(r.Context(), reserved, errDirectExpired.because(err))
	case errors.Is(err, storage.ErrNoDirect):
		return s.answerCommitted(w, r, reserved, errNoDirect.because(err))
	case errors.Is(err, storage.ErrQuota):
		return s.overQuota(r, reserved.Workspace, err)
	case errors.Is(err, storage.ErrWorkspaceNotFound):
		return errWorkspaceNotFound.because(err)
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		return errBodyUnreadable.because(err) // nobody is there to read it
	}
	return errStage.because(err)
}

// clockSlack is more than the database's clock and this one may differ by.
const clockSlack = time.Hour

// unlessCommitted is refusal for files that were never committed, and
// errDirectCommitted for those whose rows and objects are gone already. The feed
// tells them apart, which remembers files for longer.
func (s *Server) unlessCommitted(ctx context.Context, reserved reservation, refusal *failure) error {
	ids := make([]storage.FileID, len(reserved.Files))
	for i, f := range reserved.Files {
		ids[i] = f.ID
	}
	found, err := s.cfg.Activity.Announced(ctx, reserved.Workspace, ids, time.Unix(reserved.Issued, 0).Add(-clockSlack))
	switch {
	case err != nil:
		return errStage.because(fmt.Errorf("look for an earlier commit: %w", err))
	case found:
		return errDirectCommitted.because(refusal)
	}
	return refusal
}
