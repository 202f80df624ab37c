package handlers

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// drainFactor is how much of a refused body is read and thrown away, in
// multiples of its cap: a sender that writes everything before it reads would
// lose the answer if the connection closed under it. Canvases know only a
// per-file cap of 100 MiB, so bodies far above ours are ordinary.
const drainFactor = 8

// upload receives files for a workspace: POST /workspaces/{id}/chat/uploads.
func (s *Server) upload(w http.ResponseWriter, r *http.Request) error {
	id, err := pathWorkspace(r)
	if err != nil {
		return err
	}
	raw := s.slowReader(w, r.Body)
	body := &cappedReader{r: raw, left: s.cfg.Limits.MaxRequestBytes}
	ws, err := s.receiver(r, id)
	switch {
	case err != nil:
	case ws.DeliveryMode == "poll" && s.cfg.Storage != nil:
		err = s.stage(w, r, id, body)
	default:
		shared := &sharedBody{body: body, rc: raw.rc}
		r.Body = shared
		err = s.forwardUpload(w, r, ws)
		shared.end()
	}
	if err != nil {
		s.drain(r, raw, body)
	}
	return err
}

// receiver looks up the workspace and refuses a body that says itself that it
// is too large.
func (s *Server) receiver(r *http.Request, id storage.WorkspaceID) (metadata.Workspace, error) {
	ws, err := s.lookUpReceiver(r, id)
	if err == nil && r.ContentLength > s.cfg.Limits.MaxRequestBytes {
		return ws, s.requestTooLarge(r, id)
	}
	return ws, err
}

// lookUpReceiver looks up the workspace that files are for.
func (s *Server) lookUpReceiver(r *http.Request, id storage.WorkspaceID) (metadata.Workspace, error) {
	ctx, cancel := context.WithTimeout(r.Context(), lookupTimeout)
	defer cancel()
	ws, err := s.cfg.Workspaces.Get(ctx, id)
	switch {
	case errors.Is(err, storage.ErrWorkspaceNotFound):
		return ws, errWorkspaceNotFound.because(err)
	case s.cfg.Storage == nil && errors.Is(err, context.DeadlineExceeded):
		return ws, errLookupTimeout.because(err)
	case err != nil:
		return ws, errModeLookup.because(err)
	case ws.RemovedAt != nil:
		return ws, errWorkspaceNotFound
	}
	return ws, nil
}

// stage stages every file of the request or none.
func (s *Server) stage(w http.ResponseWriter, r *http.Request, id storage.WorkspaceID, body *cappedReader) error {
	form, err := newForm(r, body)
	defer form.close()
	if err != nil {
		return s.refused(r, id, form, err)
	}
	if err := s.checkQuota(r, id, leastUpload); err != nil {
		return err
	}
	records, err := s.cfg.Storage.PutBatch(r.Context(), id, storage.Batch{
		Uploads:  form.uploads(),
		MaxBytes: max(r.ContentLength, 0),
	})
	if err != nil {
		return s.refused(r, id, form, err)
	}
	if len(records) == 0 {
		return errNoFiles
	}
	for _, rec := range records {
		s.log.LogAttrs(r.Context(), slog.LevelInfo, "upload staged", recordAttrs(rec)...)
	}
	return s.writeJSON(w, r, http.StatusOK, uploadReply(records))
}

func uploadReply(records []storage.Record) wire.UploadReply {
	reply := wire.UploadReply{Files: make([]wire.UploadedFile, 0, len(records))}
	for _, rec := range records {
		reply.Files = append(reply.Files, wire.UploadedFile{
			URI:      rec.URI(),
			Name:     rec.Filename,
			MIMEType: rec.MIMEType,
			Size:     rec.Content.Size,
		})
	}
	return reply
}

// refused turns what ended an upload into its reply. What the body did comes
// before what the store says: it only passes that on, sometimes as a
// cancellation. A file above its cap comes first of all, because its reply
// names the file.
func (s *Server) refused(r *http.Request, id storage.WorkspaceID, form *form, err error) error {
	var file *storage.FileError
	hasFile := errors.As(err, &file)
	switch {
	case hasFile && errors.Is(err, storage.ErrTooLarge):
		name, size := form.name(file.Index), form.sizeOfCurrent(s.cfg.Limits.MaxFileBytes)
		s.log.LogAttrs(r.Context(), slog.LevelInfo, "upload above per-file cap",
			slog.String("workspace_id", id.String()), slog.String("filename", file.Filename),
			slog.Int64("size", size), slog.Int64("max", s.cfg.Limits.MaxFileBytes))
		return errFileTooLarge.with("filename", name).with("size", size).with("max", s.cfg.Limits.MaxFileBytes).because(err)
	case form.overCap():
		return s.requestTooLarge(r, id)
	case form.failed() != nil:
		s.log.LogAttrs(r.Context(), slog.LevelInfo, "upload not parseable",
			slog.String("workspace_id", id.String()), slog.Any("error", form.failed()))
		return form.failed()
	case hasFile && errors.Is(err, storage.ErrEmpty):
		return errFileEmpty.with("filename", form.name(file.Index)).because(err)
	case errors.Is(err, storage.ErrTooLarge):
		return errFilesTooLarge.with("max", s.cfg.Limits.MaxFileBytes).because(err)
	case errors.Is(err, storage.ErrTooManyFiles):
		return errTooManyFiles.because(err)
	case errors.Is(err, storage.ErrBusy):
		return errUploadBusy.because(err)
	case errors.Is(err, storage.ErrQuota):
		return s.overQuota(r, id, err)
	case errors.Is(err, storage.ErrWorkspaceNotFound):
		return errWorkspaceNotFound.because(err)
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		return errBodyUnreadable.because(err) // nobody is there to read it
	}
	return errStage.because(err)
}

func (s *Server) requestTooLarge(r *http.Request, id storage.WorkspaceID) error {
	s.log.LogAttrs(r.Context(), slog.LevelInfo, "upload above request cap",
		slog.String("workspace_id", id.String()), slog.Int64("content_length", r.ContentLength),
		slog.Int64("max", s.cfg.Limits.MaxRequestBytes))
	return errRequestTooLarge.with("max", s.cfg.Limits.MaxRequestBytes)
}

// drain reads on after a refusal, up to a bound, so that the answer reaches a
// sender that writes first. One that waits for "100 Continue" has sent nothing
// and need not.
func (s *Server) drain(r *http.Request, raw io.Reader, body *cappedReader) {
	if body.total == 0 && strings.EqualFold(r.Header.Get("Expect"), "100-continue") {
		return
	}
	bound := drainFactor*s.cfg.Limits.MaxRequestBytes - body.total
	if _, err := io.CopyN(io.Discard, raw, bound); err != nil && !errors.Is(err, io.EOF) {
		s.log.LogAttrs(r.Context(), slog.LevelDebug, "refused upload not drained", slog.Any("error", err))
	}
}

// recordAttrs is what log lines say of a pending upload.
func recordAttrs(rec storage.Record) []slog.Attr {
	return []slog.Attr{
		slog.String("workspace_id", rec.WorkspaceID.String()),
		slog.String("file_id", rec.FileID.String()),
		slog.Int64("size", rec.Content.Size),
		slog.String("mime_type", rec.MIMEType),
		slog.String("filename", rec.Filename),
	}
}
