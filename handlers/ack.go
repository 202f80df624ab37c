package handlers

import (
	"errors"
	"log/slog"
	"net/http"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/storage"
)

// ackUpload records that the workspace has the file. Whether it is the
// workspace's is checked before anything changes.
func (s *Server) ackUpload(w http.ResponseWriter, r *http.Request) error {
	ws, f, err := pathFile(r)
	if err != nil {
		return err
	}
	if s.cfg.Storage == nil {
		return errUploadGone
	}
	rec, err := s.cfg.Storage.Stat(r.Context(), ws, f)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return s.notFound(r, ws, f, errUploadGone)
	case err != nil:
		return errStorage.because(err)
	}
	reply := wire.AckReply{Acked: true}
	switch err := s.cfg.Storage.Ack(r.Context(), ws, f); {
	case errors.Is(err, storage.ErrNotFound):
		reply.Raced = true // expired or swept since the look above
	case err != nil:
		return errStorage.because(err)
	}
	s.log.LogAttrs(r.Context(), slog.LevelInfo, "upload acknowledged",
		append(recordAttrs(rec), slog.Bool("raced", reply.Raced))...)
	return s.writeJSON(w, r, http.StatusOK, reply)
}
