package metadata

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/storage"
)

const markCorruptSQL = `
UPDATE pending_uploads
SET corrupt_at = statement_timestamp()
WHERE workspace_id = @workspace AND file_id = @file AND corrupt_at IS NULL`

// MarkCorrupt records that the content of an upload was read and is not what was
// staged. The first time stays. A row that is gone is no error: nobody can be
// given its content any more.
func (u *Uploads) MarkCorrupt(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) error {
	if _, err := u.db.Exec(ctx, markCorruptSQL, pgx.NamedArgs{"workspace": wsArg(ws), "file": fileArg(f)}); err != nil {
		return fmt.Errorf("mark upload %s of workspace %s corrupt: %w", f, ws, err)
	}
	return nil
}

const countCorruptSQL = `SELECT count(*) FROM pending_uploads WHERE corrupt_at IS NOT NULL`

// CountCorrupt returns how many uploads there are, in any state, whose content
// was found to be not what was staged. It reads the whole table.
func (u *Uploads) CountCorrupt(ctx context.Context) (int64, error) {
	var n int64
	if err := u.db.QueryRow(ctx, countCorruptSQL).Scan(&n); err != nil {
		return 0, fmt.Errorf("count corrupt uploads: %w", err)
	}
	return n, nil
}
