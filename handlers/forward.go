package handlers

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/molecule-ai/pendinguploads/handlers/outbound"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// Paths of a push-mode workspace, contract 8.1.
const (
	ingestPath   = "/internal/chat/uploads/ingest"
	readFilePath = "/internal/file/read"
)

// lookupTimeout bounds the look at a token or a workspace before anything that
// takes its own time: staging, forwarding, streaming.
const lookupTimeout = 10 * time.Second

// forwardWords are the replies that name what was to be forwarded.
type forwardWords struct{ needsPush, notEnrolled *failure }

// forwardUpload streams the request to the workspace and its reply back. The
// body, which r carries already capped, is neither buffered nor re-encoded.
func (s *Server) forwardUpload(w http.ResponseWriter, r *http.Request, ws metadata.Workspace) error {
	secret, err := s.inboundSecret(r.Context(), ws, forwardWords{errUploadNeedsPush, errNotEnrolled})
	if err != nil {
		return err
	}
	req, err := forwardRequest(r.Context(), http.MethodPost, ws.URL, ingestPath, nil, secret)
	if err != nil {
		return err
	}
	if contentType := r.Header.Get("Content-Type"); contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if r.ContentLength != 0 {
		req.Body, req.ContentLength = r.Body, r.ContentLength
	}
	return s.relay(w, r, ws.ID, req, "Content-Type")
}

// chatDownload answers GET /workspaces/{id}/chat/download with a file of a
// push-mode workspace.
func (s *Server) chatDownload(w http.ResponseWriter, r *http.Request) error {
	id, err := pathWorkspace(r)
	if err != nil {
		return err
	}
	file := r.URL.Query().Get("path")
	if err := checkDownloadPath(file); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), lookupTimeout)
	defer cancel()
	ws, err := s.findWorkspace(ctx, id)
	if errors.Is(err, context.DeadlineExceeded) {
		return errLookupTimeout.because(err)
	}
	if err != nil {
		return err
	}
	secret, err := s.inboundSecret(r.Context(), ws, forwardWords{errDownloadNeedsPush, errNotEnrolledRead})
	if err != nil {
		return err
	}
	req, err := forwardRequest(r.Context(), http.MethodGet, ws.URL, readFilePath, url.Values{"path": {file}}, secret)
	if err != nil {
		return err
	}
	return s.relay(w, r, id, req, "Content-Type", "Content-Length", "Content-Disposition")
}

// checkDownloadPath judges by slashes, whatever system the workspace runs on.
// Any two dots in a row are refused, not only those that climb.
func checkDownloadPath(file string) error {
	switch {
	case file == "":
		return errPathRequired
	case file[0] != '/':
		return errPathNotAbsolute
	}
	below := false
	for _, root := range []string{"/configs", "/workspace", "/home", "/plugins", "/agent-home"} {
		below = below || file == root || strings.HasPrefix(file, root+"/")
	}
	switch {
	case !below:
		return errPathRoot
	case strings.Contains(file, "..") || strings.ContainsRune(file, 0):
		return errPathInvalid
	}
	return nil
}

// inboundSecret decides whether the workspace can be called and with which
// secret (contract 2.4.2).
func (s *Server) inboundSecret(ctx context.Context, ws metadata.Workspace, words forwardWords) (string, error) {
	switch {
	case ws.URL == "" && ws.DeliveryMode == modePush:
		return "", errURLNotRegistered
	case ws.URL == "":
		return "", words.needsPush.with("detail", "the workspace is not in push mode, and no URL to reach it at is known")
	}
	if err := s.outbound.Check(ctx, ws.URL); errors.Is(err, outbound.ErrNotAllowed) {
		return "", errURLNotAllowed.because(err)
	} else if err != nil {
		return "", errLookupTimeout.because(err)
	}
	secret, minted, err := s.cfg.Workspaces.InboundSecret(ctx, ws.ID)
	switch {
	case errors.Is(err, storage.ErrWorkspaceNotFound):
		return "", errWorkspaceNotFound.because(err)
	case err != nil:
		return "", words.notEnrolled.with("detail", "the secret shared with the workspace could not be read or made").because(err)
	case minted:
		return "", errReregistering.with("detail", "the secret shared with the workspace has just been made; its next heartbeat delivers it")
	}
	return secret, nil
}

// forwardRequest is a request with the inbound secret and nothing of the
// caller's own headers.
func forwardRequest(ctx context.Context, method, base, path string, query url.Values, secret string) (*http.Request, error) {
	u, err := outbound.Endpoint(base, path, query)
	if err != nil {
		return nil, errURLNotAllowed.because(err)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, errURLNotAllowed.because(err)
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	return req, nil
}

// relay sends the request and passes on status, body and the named headers; a
// redirect loses its Location.
func (s *Server) relay(w http.ResponseWriter, r *http.Request, id storage.WorkspaceID, req *http.Request, headers ...string) error {
	resp, err := s.outbound.Do(req)
	switch {
	case errors.Is(err, outbound.ErrNotAllowed):
		return errURLNotAllowed.because(err)
	case err != nil:
		return errUnreachable.because(err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end or given up
	h := w.Header()
	h["Content-Type"] = nil // no guess where the workspace sends none
	for _, name := range headers {
		if value := resp.Header.Get(name); value != "" {
			h.Set(name, value)
		}
	}
	if resp.ContentLength >= 0 && resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusNotModified {
		h.Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	w.WriteHeader(resp.StatusCode)
	in := &failingReader{r: resp.Body}
	_, err = io.Copy(s.slowGuard(w, r), in)
	switch {
	case in.err != nil && r.Context().Err() == nil:
		s.log.LogAttrs(r.Context(), slog.LevelWarn, "forwarded reply cut short",
			slog.String("workspace_id", id.String()), slog.Any("error", in.err))
		// Half a reply must not look like a whole one.
		panic(http.ErrAbortHandler)
	case err != nil:
		s.log.LogAttrs(r.Context(), slog.LevelDebug, "forwarded reply not delivered",
			slog.String("workspace_id", id.String()), slog.Any("error", err))
	}
	return nil
}
