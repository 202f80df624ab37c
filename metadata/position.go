package metadata

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/storage"
)

// positionOf are the statements that find where a stream begins: after the
// cursor, before the first entry of the window, or at the head. All have the head
// as a second column, as of the same moment.
const (
	positionAfterSQL = `
SELECT seq, ` + feedHead + `
FROM activity_logs
WHERE workspace_id = @workspace AND id = @after`

	positionSinceSQL = `
SELECT coalesce((
    SELECT seq - 1
    FROM activity_logs
    WHERE workspace_id = @workspace AND created_at > statement_timestamp() - @since::interval
    ORDER BY created_at, seq
    LIMIT 1), f.head), f.head
FROM (SELECT ` + feedHead + ` AS head) f`

	positionHeadSQL = `
SELECT f.head, f.head
FROM (SELECT ` + feedHead + ` AS head) f`
)

// Position returns the seq after which a reader begins that wants what q.After or
// q.Since says, and without either only what commits from now on; and the feed's
// head at that moment. Nothing else of q matters. ErrCursorNotFound as in Page.
func (a *Activity) Position(ctx context.Context, ws storage.WorkspaceID, q Query) (seq, head int64, err error) {
	sql, args := positionHeadSQL, pgx.NamedArgs{"workspace": wsArg(ws)}
	switch {
	case q.After != nil:
		sql, args["after"] = positionAfterSQL, *q.After
	case q.Since > 0:
		sql, args["since"] = positionSinceSQL, q.Since
	}
	err = a.db.QueryRow(ctx, sql, args).Scan(&seq, &head)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrCursorNotFound
	}
	if err != nil {
		return 0, 0, fmt.Errorf("find position in feed of workspace %s: %w", ws, err)
	}
	return seq, head, nil
}
