package handlers

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/storage"
)

// DefaultDirectTTL is how long a direct upload may take from its reservation to
// its commit where nothing else is configured.
const DefaultDirectTTL = 15 * time.Minute

// maxMIMETypeBytes is two names of RFC 6838's longest and a slash. A direct
// upload's type comes in a body, where nothing else bounds it.
const maxMIMETypeBytes = 2*127 + 1

// partsPerMinute is how many files a workspace may reserve in parts in a minute, at
// each replica: one full reservation. Each leaves an upload at the store until it is
// committed or swept, sent or not. No quota counts those, and sweeps, which abort
// them one by one, have to keep up.
const partsPerMinute = storage.MaxFilesPerBatch

// reserveDirect answers with the requests that write files to the object store:
// POST /workspaces/{id}/chat/uploads/direct. The cap of a request is not applied
// to the sum of the sizes, because the bytes do not come through here.
func (s *Server) reserveDirect(w http.ResponseWriter, r *http.Request) error {
	id, err := s.directReceiver(r)
	if err != nil {
		return err
	}
	var body wire.DirectRequest
	if err := readJSON(r, &body); err != nil {
		return badBody(err, errInvalidBody)
	}
	files, err := s.directFiles(body.Files)
	if err != nil {
		return err
	}
	// Room is not held until the commit: who stages it first has it. It is looked for
	// first, because files in parts have an upload begun by the reservation.
	if adding, ok := s.directUsage(files); ok {
		if err := s.checkQuota(r, id, adding); err != nil {
			return err
		}
	}
	issued := time.Now()
	s.boundParts(id, files, issued)
	puts, err := s.cfg.Direct.ReserveDirect(r.Context(), id, files, s.cfg.DirectTTL)
	if err != nil {
		return s.directRefused(r, id, body.Files, err)
	}
	expires := issued.Add(s.cfg.DirectTTL)
	for _, p := range puts {
		if p.ExpiresAt.Before(expires) {
			expires = p.ExpiresAt
		}
	}
	expires = expires.UTC().Truncate(time.Second)
	token, err := commitToken(s.keys, id, puts, issued, expires)
	if err != nil {
		return err
	}
	reply := wire.DirectReply{CommitToken: token, ExpiresAt: expires}
	for _, p := range puts {
		reply.Files = append(reply.Files, directReplyFile(id, p))
	}
	s.log.LogAttrs(r.Context(), slog.LevelInfo, "direct upload reserved",
		slog.String("workspace_id", id.String()), slog.Int("files", len(puts)), slog.Time("expires_at", expires))
	w.Header().Set("Cache-Control", "no-store")
	return s.writeJSON(w, r, http.StatusOK, reply)
}

// directUsage is what the files add, unless the reservation is going to be refused
// for one of their sizes.
func (s *Server) directUsage(files []storage.DirectFile) (adding storage.Usage, ok bool) {
	for _, f := range files {
		if f.Size <= 0 || f.Size > s.cfg.Limits.MaxFileBytes {
			return storage.Usage{}, false
		}
		adding.Files++
		adding.Bytes += f.Size
	}
	return adding, true
}

// boundParts has files go in one request each where the workspace has reserved too
// many in parts: that leaves nothing behind which was not sent.
func (s *Server) boundParts(id storage.WorkspaceID, files []storage.DirectFile, now time.Time) {
	for i, f := range files {
		if f.Parts == nil || f.Size <= storage.DirectPartsFrom {
			continue
		}
		if _, wait := s.parts.take(sha256.Sum256(id[:]), now); wait > 0 {
			files[i].Parts = nil
		}
	}
}

func directReplyFile(ws storage.WorkspaceID, p storage.DirectPut) wire.DirectFile {
	f := wire.DirectFile{
		FileID: p.FileID.String(),
		UploadedFile: wire.UploadedFile{
			URI: storage.PendingURI(ws, p.FileID), Name: p.Filename, MIMEType: p.MIMEType, Size: p.Size,
		},
	}
	if p.Parts == nil {
		one := directCall(p.DirectRequest)
		f.DirectCall = &one
		return f
	}
	for i, r := range p.PartRequests {
		_, size := p.Parts.Span(i, p.Size)
		f.Parts = append(f.Parts, wire.DirectPart{Number: i + 1, Size: size, DirectCall: directCall(r)})
	}
	return f
}

func directCall(r storage.DirectRequest) wire.DirectCall {
	headers := make(map[string]string, len(r.Header))
	for name := range r.Header {
		headers[name] = r.Header.Get(name)
	}
	return wire.DirectCall{Method: r.Method, URL: r.URL, Headers: headers}
}

// directReceiver is the workspace, if files can be written for it.
func (s *Server) directReceiver(r *http.Request) (storage.WorkspaceID, error) {
	id, err := pathWorkspace(r)
	if err != nil {
		return id, err
	}
	ws, err := s.lookUpReceiver(r, id)
	switch {
	case err != nil:
		return id, err
	case ws.DeliveryMode != "poll" || s.cfg.Direct == nil:
		return id, errNoDirect
	}
	return id, nil
}

// directFiles applies the rules of the multipart route to names and types.
func (s *Server) directFiles(asked []wire.DirectRequestFile) ([]storage.DirectFile, error) {
	switch {
	case len(asked) == 0:
		return nil, errNoFiles
	case len(asked) > storage.MaxFilesPerBatch:
		return nil, errTooManyFiles
	}
	files := make([]storage.DirectFile, len(asked))
	for i, a := range asked {
		if a.Name == "" {
			return nil, errDirectName.with("index", i)
		}
		digest, err := parseDigest(a.SHA256)
		if err != nil {
			return nil, errDirectDigest.with("filename", path.Base(a.Name)).because(err)
		}
		parts, err := directParts(a)
		if err != nil {
			return nil, errDirectParts.with("filename", path.Base(a.Name)).because(err)
		}
		mimeType := storage.ReduceMIMEType(a.MIMEType)
		if len(mimeType) > maxMIMETypeBytes {
			mimeType = storage.OctetStream
		}
		files[i] = storage.DirectFile{
			Filename: storage.SanitizeFilename(path.Base(a.Name)), MIMEType: mimeType, Size: a.Size, SHA256: digest, Parts: parts,
		}
	}
	return files, nil
}

// directParts is nil for a file whose sender does not know parts.
func directParts(a wire.DirectRequestFile) (*storage.DirectParts, error) {
	if len(a.PartSHA256) == 0 {
		return nil, nil //nolint:nilnil // none are asked for, and nothing is wrong
	}
	parts := &storage.DirectParts{Size: cmp.Or(a.PartSize, storage.DirectPartBytes), SHA256: make([]storage.Digest, len(a.PartSHA256))}
	for i, text := range a.PartSHA256 {
		var err error
		if parts.SHA256[i], err = parseDigest(text); err != nil {
			return nil, fmt.Errorf("part %d: %w", i+1, err)
		}
	}
	return parts, nil
}

var errDigestForm = errors.New("want 64 hex digits or the base64 of 32 bytes")

// parseDigest reads hex, and base64 of either alphabet, padded or not.
func parseDigest(text string) (storage.Digest, error) {
	if d, err := storage.ParseDigest(text); err == nil && !d.IsZero() {
		return d, nil
	}
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || len(b) != len(storage.Digest{}) || storage.Digest(b).IsZero() {
		return storage.Digest{}, errDigestForm
	}
	return storage.Digest(b), nil
}

// directRefused is the reply to a reservation that cannot be made.
func (s *Server) directRefused(r *http.Request, id storage.WorkspaceID, asked []wire.DirectRequestFile, err error) error {
	var file *storage.FileError
	hasFile := errors.As(err, &file)
	switch {
	case errors.Is(err, storage.ErrNoDirect):
		return errNoDirect.because(err)
	case hasFile && errors.Is(err, storage.ErrEmpty):
		return errFileEmpty.with("filename", path.Base(asked[file.Index].Name)).because(err)
	case hasFile && errors.Is(err, storage.ErrInvalidParts):
		return errDirectParts.with("filename", path.Base(asked[file.Index].Name)).because(err)
	case hasFile && errors.Is(err, storage.ErrTooLarge):
		name, size := path.Base(asked[file.Index].Name), asked[file.Index].Size
		s.log.LogAttrs(r.Context(), slog.LevelInfo, "upload above per-file cap",
			slog.String("workspace_id", id.String()), slog.String("filename", file.Filename),
			slog.Int64("size", size), slog.Int64("max", s.cfg.Limits.MaxFileBytes))
		return errFileTooLarge.with("filename", name).with("size", size).with("max", s.cfg.Limits.MaxFileBytes).because(err)
	}
	return errStage.because(err)
}
