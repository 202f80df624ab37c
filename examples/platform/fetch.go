package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads"
)

// urlTTL is how long an address of the object store is good for.
const urlTTL = 5 * time.Minute

// lookup is what a Storage has that can find a file without reading it.
type lookup interface {
	Lookup(ctx context.Context, fileID uuid.UUID) (pendinguploads.Record, error)
}

// find gets a file's record and holds it against the workspace. The storage leaves
// that to its callers: without it whoever has an id has the file.
func (p *platform) find(r *http.Request, workspaceID uuid.UUID, get func(context.Context, uuid.UUID) (pendinguploads.Record, error)) (pendinguploads.Record, error) {
	fileID, err := uuid.Parse(r.PathValue("file"))
	if err != nil {
		return pendinguploads.Record{}, refuse(http.StatusBadRequest, "invalid file_id")
	}
	record, err := get(r.Context(), fileID)
	if err == nil && record.WorkspaceID != workspaceID {
		err = pendinguploads.ErrNotFound
	}
	return record, err
}

// content serves a file's bytes, or with ?delivery=url an address of the object
// store where the file lies in one.
func (p *platform) content(w http.ResponseWriter, r *http.Request, workspaceID uuid.UUID) error {
	if uploads, ok := p.uploads.(lookup); ok && r.URL.Query().Get("delivery") == "url" {
		record, err := p.find(r, workspaceID, uploads.Lookup)
		if err != nil {
			return err
		}
		signed, expiresAt, err := record.URL(r.Context(), urlTTL)
		if err == nil {
			answer(w, http.StatusOK, map[string]any{"url": signed, "expires_at": expiresAt})
			p.markFetched(r.Context(), record)
			return nil
		}
		if !errors.Is(err, pendinguploads.ErrNoURL) {
			return err
		}
	}
	record, err := p.find(r, workspaceID, p.uploads.Get)
	if err != nil {
		return err
	}
	contentType := record.Mimetype
	if contentType == "" {
		contentType = "application/octet-stream"
	}
	name := pendinguploads.SanitizeFilename(record.Filename) // rows may be older than the rule
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s"; filename*=UTF-8''%s`, name, url.PathEscape(name)))
	w.Header().Set("Content-Length", strconv.FormatInt(record.SizeBytes, 10))
	if _, err := w.Write(record.Content); err == nil {
		p.markFetched(r.Context(), record)
	}
	return nil
}

// markFetched changes no answer: the workspace has what it wanted.
func (p *platform) markFetched(ctx context.Context, record pendinguploads.Record) {
	if err := p.uploads.MarkFetched(ctx, record.FileID); err != nil {
		p.log.LogAttrs(ctx, slog.LevelWarn, "not marked as fetched", slog.String("file_id", record.FileID.String()), slog.Any("error", err))
	}
}

// ack takes a file off the workspace's hands.
func (p *platform) ack(w http.ResponseWriter, r *http.Request, workspaceID uuid.UUID) error {
	get := p.uploads.Get
	if uploads, ok := p.uploads.(lookup); ok {
		get = uploads.Lookup
	}
	record, err := p.find(r, workspaceID, get)
	if err != nil {
		return err
	}
	switch err := p.uploads.Ack(r.Context(), record.FileID); {
	case errors.Is(err, pendinguploads.ErrNotFound): // swept or expired since
		answer(w, http.StatusOK, map[string]any{"acked": true, "raced": true})
	case err != nil:
		return err
	default:
		answer(w, http.StatusOK, map[string]any{"acked": true})
	}
	return nil
}
