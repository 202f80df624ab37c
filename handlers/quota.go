package handlers

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/molecule-ai/pendinguploads/storage"
)

// QuotaChecker tells whether files would be refused before they are sent;
// *metadata.Uploads is one. What it lets through the store may refuse all the same,
// which is what holds when uploads run at the same time.
type QuotaChecker interface {
	// CheckQuota returns a *storage.QuotaError where adding is too much for the
	// workspace now.
	CheckQuota(ctx context.Context, ws storage.WorkspaceID, adding storage.Usage) error
}

// leastUpload is the least that an upload adds.
var leastUpload = storage.Usage{Bytes: 1, Files: 1}

// checkQuota refuses what is too much for the workspace already.
func (s *Server) checkQuota(r *http.Request, id storage.WorkspaceID, adding storage.Usage) error {
	if s.cfg.Quota == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), lookupTimeout)
	defer cancel()
	err := s.cfg.Quota.CheckQuota(ctx, id, adding)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, storage.ErrQuota):
		return s.overQuota(r, id, err)
	}
	return errStage.because(err)
}

// overQuota is the reply to files that the workspace has no room for.
func (s *Server) overQuota(r *http.Request, id storage.WorkspaceID, err error) error {
	s.metrics.quotaRefusals.Inc()
	refusal := errQuota.because(err)
	var over *storage.QuotaError
	if !errors.As(err, &over) {
		return refusal
	}
	s.log.LogAttrs(r.Context(), slog.LevelInfo, "upload above quota of workspace", slog.String("workspace_id", id.String()),
		slog.Int64("used_bytes", over.Used.Bytes), slog.Int64("adding_bytes", over.Adding.Bytes), slog.Int64("max_bytes", over.Max.Bytes),
		slog.Int64("used_files", over.Used.Files), slog.Int64("adding_files", over.Adding.Files), slog.Int64("max_files", over.Max.Files))
	refusal = refusal.with("used_bytes", over.Used.Bytes).with("used_files", over.Used.Files)
	if over.Max.Bytes > 0 {
		refusal = refusal.with("max_bytes", over.Max.Bytes)
	}
	if over.Max.Files > 0 {
		refusal = refusal.with("max_files", over.Max.Files)
	}
	return refusal
}
