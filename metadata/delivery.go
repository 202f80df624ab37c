package metadata

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/storage"
)

// ackSeqSQL records no more than the feed has: whoever acks has read it, so the
// head is at least that far, and what is written later is not acked unread.
const ackSeqSQL = `
INSERT INTO inbox_delivery_state AS d (workspace_id, last_acked_seq)
SELECT w.id, least(@seq::bigint, coalesce(f.last_seq, 0))
FROM workspaces w
LEFT JOIN activity_feeds f ON f.workspace_id = w.id
WHERE w.id = @workspace AND w.status <> 'removed'
ON CONFLICT (workspace_id) DO UPDATE
SET last_acked_seq = greatest(d.last_acked_seq, excluded.last_acked_seq),
    updated_at = statement_timestamp()
RETURNING d.last_acked_seq`

// AckSeq records that the workspace has consumed its feed up to seq, and returns
// what is recorded: never less than before, and never beyond the feed's head,
// because entries up to it are pruned early. storage.ErrWorkspaceNotFound, also
// for a removed workspace.
func (a *Activity) AckSeq(ctx context.Context, ws storage.WorkspaceID, seq int64) (int64, error) {
	var last int64
	err := a.db.QueryRow(ctx, ackSeqSQL, pgx.NamedArgs{"workspace": wsArg(ws), "seq": seq}).Scan(&last)
	if errors.Is(err, pgx.ErrNoRows) {
		err = storage.ErrWorkspaceNotFound
	}
	if err != nil {
		return 0, fmt.Errorf("ack feed of workspace %s up to %d: %w", ws, seq, translate(err))
	}
	return last, nil
}
