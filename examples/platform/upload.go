package main

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads"
)

const (
	maxRequestBytes = 50 << 20 // above the cap of a file, which so has an answer of its own
	maxFiles        = 64       // of a request
)

// upload describes a staged file: to the uploader, and in the feed.
type upload struct {
	FileID   uuid.UUID `json:"file_id"`
	URI      string    `json:"uri"`
	Name     string    `json:"name"`
	MimeType string    `json:"mimeType"`
	Size     int       `json:"size"`
}

// upload stages the files of a request and announces them: all in one transaction,
// the rows by the storage and the feed entries by the platform.
func (p *platform) upload(w http.ResponseWriter, r *http.Request, workspaceID uuid.UUID) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxRequestBytes)
	items, err := readFiles(r)
	if err != nil {
		return err
	}
	tx, err := p.db.BeginTx(r.Context(), nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	ids, err := p.batches.PutBatchTx(r.Context(), tx, workspaceID, items)
	if err != nil {
		return fmt.Errorf("stage: %w", err)
	}
	uploads := make([]upload, len(items))
	for i, item := range items {
		uri := fmt.Sprintf("platform-pending:%s/%s", workspaceID, ids[i])
		uploads[i] = upload{ids[i], uri, item.Filename, item.Mimetype, len(item.Content)}
	}
	if err := logUploads(r.Context(), tx, workspaceID, uploads); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	answer(w, http.StatusOK, map[string]any{"files": uploads})
	return nil
}

// readFiles reads the parts named files, and makes names and types safe.
func readFiles(r *http.Request) ([]pendinguploads.PutItem, error) {
	parts, err := r.MultipartReader()
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "malformed multipart body")
	}
	var items []pendinguploads.PutItem
	for {
		part, err := parts.NextPart()
		switch {
		case errors.Is(err, io.EOF) && len(items) == 0:
			return nil, refuse(http.StatusBadRequest, "no files field in request")
		case errors.Is(err, io.EOF):
			return items, nil
		case err != nil:
			return nil, unreadable(err)
		case part.FormName() != "files" || part.FileName() == "":
			continue
		case len(items) == maxFiles:
			return nil, refuse(http.StatusBadRequest, fmt.Sprintf("too many files (limit %d)", maxFiles))
		}
		item, err := readFile(part)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
}

func readFile(part *multipart.Part) (pendinguploads.PutItem, error) {
	content, err := io.ReadAll(io.LimitReader(part, pendinguploads.MaxFileBytes+1))
	if err != nil {
		return pendinguploads.PutItem{}, unreadable(err)
	}
	switch {
	case len(content) == 0:
		return pendinguploads.PutItem{}, &refusal{http.StatusBadRequest, map[string]any{"error": "file is empty", "filename": part.FileName()}}
	case len(content) > pendinguploads.MaxFileBytes:
		// Read to its end, so that a client that writes before it reads sees the answer.
		rest, err := io.Copy(io.Discard, part)
		if err != nil {
			return pendinguploads.PutItem{}, unreadable(err)
		}
		return pendinguploads.PutItem{}, &refusal{http.StatusRequestEntityTooLarge, map[string]any{
			"error": "file exceeds per-file cap", "filename": part.FileName(),
			"size": int64(len(content)) + rest, "max": pendinguploads.MaxFileBytes,
		}}
	}
	return pendinguploads.PutItem{
		Content: content, Filename: pendinguploads.SanitizeFilename(part.FileName()), Mimetype: plainType(part.Header.Get("Content-Type")),
	}, nil
}

// unreadable is the answer to a body that cannot be read on.
func unreadable(err error) error {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return &refusal{http.StatusRequestEntityTooLarge, map[string]any{"error": "request exceeds cap", "max": tooLarge.Limit}}
	}
	return refuse(http.StatusBadRequest, "malformed multipart body")
}

// plainType is a MIME type without parameters; none where there is none.
func plainType(contentType string) string {
	if contentType == "" {
		return ""
	}
	plain, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return "application/octet-stream"
	}
	return plain
}
