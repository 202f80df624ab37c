package metadata

import (
	"context"

	"github.com/molecule-ai/pendinguploads/storage"
)

const getFetchedSQL = `
UPDATE pending_uploads
SET fetched_at = statement_timestamp()
WHERE {its} AND expires_at > statement_timestamp() {unswept}
  AND ($3 OR {unacked})
RETURNING workspace_id, file_id, filename, mimetype, created_at, fetched_at, acked_at, expires_at,
          size_bytes, {digest}, {key}`

// GetFetched is MarkFetched and Get in one statement: the record has the new
// fetched time. storage.ErrNotFound, and then nothing was set.
func (u *Uploads) GetFetched(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (storage.Record, error) {
	return u.scan(ctx, u.sql.getFetched, ws, f, u.readAfterAck)
}
