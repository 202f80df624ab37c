package metadata

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/molecule-ai/pendinguploads/storage"
)

// AlreadyInserted reports whether an Insert failed, as a whole, because one of
// its uploads has a row. A row that somebody else is about to commit is waited
// for.
func AlreadyInserted(err error) bool {
	var pgErr *pgconn.PgError
	// The key's name is not compared: a table that was adopted has one of its own.
	return errors.As(err, &pgErr) && pgErr.Code == codeUnique && pgErr.TableName == "pending_uploads"
}

const announcedSQL = `
SELECT EXISTS (
    SELECT FROM activity_logs l
    WHERE l.workspace_id = @workspace AND l.created_at >= @since AND l.method = @method
      AND l.request_body ->> 'file_id' = ANY (@files::text[]))`

// Announced reports whether the feed of ws has told of one of the uploads since a
// time, whatever became of their rows.
func (a *Activity) Announced(ctx context.Context, ws storage.WorkspaceID, files []storage.FileID, since time.Time) (bool, error) {
	ids := make([]string, len(files))
	for i, f := range files {
		ids[i] = f.String()
	}
	var found bool
	err := a.db.QueryRow(ctx, announcedSQL, pgx.NamedArgs{
		"workspace": wsArg(ws), "since": since, "method": MethodUpload, "files": ids,
	}).Scan(&found)
	if err != nil {
		return false, fmt.Errorf("look for %d uploads in the feed of workspace %s: %w", len(files), ws, err)
	}
	return found, nil
}
