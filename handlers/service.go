package handlers

import (
	"net/http"
	"runtime"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/storage"
)

// health says that the process answers. It asks neither the database nor the
// object store: an outage of theirs must not get every replica restarted.
func (s *Server) health(w http.ResponseWriter, r *http.Request) error {
	return s.writeJSON(w, r, http.StatusOK, wire.Health{Status: "ok"})
}

func (s *Server) buildInfo(w http.ResponseWriter, r *http.Request) error {
	return s.writeJSON(w, r, http.StatusOK, wire.BuildInfo{
		Version:   s.cfg.Build.Version,
		Revision:  s.cfg.Build.Revision,
		GoVersion: runtime.Version(),
	})
}

func (s *Server) uploadLimits(w http.ResponseWriter, r *http.Request) error {
	return s.writeJSON(w, r, http.StatusOK, wire.Limits{
		PerFileBytes:    s.cfg.Limits.MaxFileBytes,
		PerRequestBytes: s.cfg.Limits.MaxRequestBytes,
		MaxAttachments:  storage.AdvisedFilesPerMessage,
	})
}
