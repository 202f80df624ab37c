package metadata

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/storage"
)

// said matches a part of a message that shows: text, or a file with an address or
// a name.
const said = `(@.text > "" || @.file.uri > "" || @.file.name > "")`

// showsSQL holds for every row l that makes a bubble: what a person said in the
// request, what an agent said in the response, as text, as a message or as a task.
// A malformed body may pass too; its reader shows nothing then.
const showsSQL = `(
    l.request_body @? '$.params.message.parts[*] ? ` + said + `'
    OR l.response_body @? '$.result ? (@ > "")'
    OR l.response_body @? '$ ? (@.result.type() == "string").parts[*] ? ` + said + `'
    OR l.response_body @? '$.result.parts[*] ? ` + said + `'
    OR l.response_body @? '$.result.message.parts[*] ? ` + said + `'
    OR l.response_body @? '$.result.status.message.parts[*] ? ` + said + `'
    OR l.response_body @? '$.result.artifacts[*].parts[*] ? ` + said + `')`

// historySQL names its subselect l for entryColumns. See pageTemplate for how
// the page is cut. The rows are found in order through an index, and tested one
// by one until there are enough.
const historySQL = `
SELECT ` + entryColumns + `, l.available
FROM (
    SELECT r.*, sum(r.body_bytes) OVER (ORDER BY created_at DESC, seq DESC ROWS UNBOUNDED PRECEDING) AS total,
           count(*) OVER () AS available
    FROM (
        SELECT ` + entryColumns + `, l.body_bytes
        FROM activity_logs l
        WHERE l.workspace_id = @workspace AND l.activity_type = 'a2a_receive' AND l.source_id IS NULL
          AND l.method IS DISTINCT FROM 'chat_upload_receive'
          AND ` + showsSQL + `
          AND (@before::timestamptz IS NULL OR l.created_at < @before)
        ORDER BY l.created_at DESC, l.seq DESC
        LIMIT @limit + 1
    ) r
) l
WHERE l.total <= @bytes OR l.total = l.body_bytes
ORDER BY l.created_at DESC, l.seq DESC
LIMIT @limit`

// History returns what makes the chat of a workspace with its user (contract
// 2.19): received entries without a source that show something; those that
// announce uploads, or ask for a task, do not count. It returns the newest of those created before before (nil: the newest of
// all), oldest first, at most limit, with the same bounds as Page; reachedEnd
// says that there are no older ones.
func (a *Activity) History(ctx context.Context, ws storage.WorkspaceID, before *time.Time, limit int) (entries []Entry, reachedEnd bool, err error) {
	switch {
	case limit <= 0:
		limit = DefaultPageLimit
	case limit > MaxPageLimit:
		limit = MaxPageLimit
	}
	rows, err := a.db.Query(ctx, historySQL, pgx.NamedArgs{
		"workspace": wsArg(ws), "before": before, "limit": int64(limit), "bytes": a.pageBytes * windowFactor,
	})
	if err != nil {
		return nil, false, fmt.Errorf("read history of workspace %s: %w", ws, err)
	}
	available := 0 // with the first that is beyond the limit
	entries, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Entry, error) { return scanEntry(row, &available) })
	if err != nil {
		return nil, false, fmt.Errorf("read history of workspace %s: %w", ws, err)
	}
	slices.Reverse(entries)
	return entries, len(entries) == available, nil
}
