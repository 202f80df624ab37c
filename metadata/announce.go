package metadata

import (
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/storage"
)

// uploadManifest is the request body of an entry that announces an upload
// (contract 2.4.1).
type uploadManifest struct {
	FileID   storage.FileID `json:"file_id"`
	Name     string         `json:"name"`
	MIMEType string         `json:"mimeType"`
	Size     int64          `json:"size"`
	URI      string         `json:"uri"`
}

// Announce implements Announcer: one entry for each upload, in the order of the
// records, so that they stand in the feed before any message that cites them.
func (a *Activity) Announce(b *pgx.Batch, ws storage.WorkspaceID, records []storage.Record) (committed func(), err error) {
	entries := make([]NewEntry, len(records))
	for i, r := range records {
		if entries[i], err = uploadEntry(r); err != nil {
			return nil, err
		}
	}
	args, written, err := a.appendArgs(ws, entries)
	if err != nil {
		return nil, fmt.Errorf("announce %d uploads: %w", len(records), err)
	}
	b.Queue(appendSQL, args).Query(func(rows pgx.Rows) error { return assignKeys(rows, written) })
	return func() { a.publish(written) }, nil
}

func uploadEntry(r storage.Record) (NewEntry, error) {
	body, err := json.Marshal(uploadManifest{
		FileID: r.FileID, Name: r.Filename, MIMEType: r.MIMEType, Size: r.Content.Size, URI: r.URI(),
	})
	if err != nil {
		return NewEntry{}, fmt.Errorf("describe upload %s: %w", r.FileID, err)
	}
	method, summary := MethodUpload, MethodUpload+": "+r.Filename
	target := uuid.UUID(r.WorkspaceID)
	return NewEntry{
		ActivityType: ActivityReceive,
		TargetID:     &target,
		Method:       &method,
		Summary:      &summary,
		RequestBody:  body,
	}, nil
}
