package metadata

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/storage"
)

const (
	// DefaultPageLimit is the number of entries of a page where none is asked for
	// (contract 2.5.1).
	DefaultPageLimit = 100

	// MaxPageLimit is the most entries of a page.
	MaxPageLimit = 500

	// SourceCanvas selects entries without a source: from a human.
	SourceCanvas = "canvas"

	// SourceAgent selects entries with a source: from another workspace.
	SourceAgent = "agent"

	// windowFactor is how much larger than PageBytes a page without a cursor may
	// grow: cutting it hides its oldest entries, so only memory is protected.
	windowFactor = 8
)

// Query selects entries of a feed; everything that is set must hold.
type Query struct {
	Type     string        // activity type; empty: any
	Source   string        // SourceCanvas, SourceAgent, or empty: any
	Peer     *uuid.UUID    // source or target
	Since    time.Duration // created within this long ago; 0: any time
	Before   *time.Time    // created before, strictly
	After    *uuid.UUID    // cursor: entries after the one with this id, oldest first
	AfterSeq *int64        // a cursor too, by seq; that entry itself may be gone. Not together with After
	Bytes    int64         // size of bodies at which the page is cut; 0: ActivityConfig.PageBytes and its rules
	Limit    int           // at most MaxPageLimit; DefaultPageLimit when not positive
	PeerInfo bool          // fill in PeerName and PeerRole
}

// entryColumns is what entryDest reads, of a table named l.
const entryColumns = `
l.id, l.workspace_id, l.seq, l.activity_type, l.source_id, l.target_id, l.method, l.summary, l.error_detail,
l.request_body, l.response_body, l.tool_trace, l.duration_ms, l.status, l.message_id, l.created_at`

func entryDest(e *Entry) []any {
	return []any{&e.ID, &e.WorkspaceID, &e.Seq, &e.ActivityType, &e.SourceID, &e.TargetID, &e.Method, &e.Summary, &e.ErrorDetail,
		&e.RequestBody, &e.ResponseBody, &e.ToolTrace, &e.DurationMS, &e.Status, &e.MessageID, &e.CreatedAt}
}

// scanEntry reads entryColumns and then the columns for extra.
func scanEntry(row pgx.CollectableRow, extra ...any) (Entry, error) {
	var e Entry
	if err := row.Scan(append(entryDest(&e), extra...)...); err != nil {
		return Entry{}, err
	}
	var err error
	if e.RequestBody, err = compact(e.RequestBody); err != nil {
		return Entry{}, err
	}
	if e.ResponseBody, err = compact(e.ResponseBody); err != nil {
		return Entry{}, err
	}
	e.ToolTrace, err = compact(e.ToolTrace)
	return e, err
}

// pageTemplate finds the cursor and the page in one statement. It yields no row
// where the cursor does not exist, and one of NULLs where it does and nothing
// follows. The innermost select finds the rows through an index; the one around
// it adds up their sizes, which are a column, so that bodies beyond the cut are
// never read.
//
// A cursor by seq exists as long as the entry after it does, or is still to come:
// otherwise what was pruned would be passed over in silence.
//
// The words in braces are filled in by pageSQL: a statement that leaves out what
// is not asked for has a plan that goes through the index made for it.
const pageTemplate = `
SELECT ` + entryColumns + `, {peer columns}, c.head
FROM {cursor} c
LEFT JOIN LATERAL (
    SELECT r.*, sum(r.body_bytes) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) AS total
    FROM (
        SELECT ` + entryColumns + `, l.body_bytes
        FROM activity_logs l
        WHERE l.workspace_id = @workspace{filters}
        ORDER BY {order}
        LIMIT @limit
    ) r
) l ON l.total <= @bytes OR l.total = l.body_bytes{peer join}`

const (
	pageCursor    = `(SELECT seq, {head} AS head FROM activity_logs WHERE workspace_id = @workspace AND id = @after)`
	pageNoCursor  = `(SELECT 0::bigint AS seq, {head} AS head)`
	pageSeqCursor = `(
    SELECT @position::bigint AS seq, f.head
    FROM (SELECT ` + feedHead + ` AS head) f
    WHERE f.head <= @position OR EXISTS (SELECT FROM activity_logs WHERE workspace_id = @workspace AND seq = @position + 1)
)`
	feedHead        = `coalesce((SELECT last_seq FROM activity_feeds WHERE workspace_id = @workspace), 0)`
	noHead          = `0::bigint`
	pagePeer        = `coalesce(peer.name, ''), coalesce(peer.role, '')`
	pageNoPeer      = `'', ''`
	pagePeerJoin    = "\nLEFT JOIN workspaces peer ON peer.id = l.source_id"
	orderOldestSeq  = "seq"
	orderNewestSeq  = "seq DESC"
	orderNewestTime = "created_at DESC, seq DESC"
)

// pageSQL is the statement for a query, made of fixed text alone; values are
// arguments. seq and created_at sort alike: a window of time is entered through
// created_at, everything else through seq.
func pageSQL(q Query, head bool) string {
	cursor, order := pageNoCursor, orderNewestSeq
	switch {
	case q.AfterSeq != nil:
		cursor, order = pageSeqCursor, orderOldestSeq
	case q.After != nil:
		cursor, order = pageCursor, orderOldestSeq
	case q.Since > 0 || q.Before != nil:
		order = orderNewestTime
	}
	peer, join := pageNoPeer, ""
	if q.PeerInfo {
		peer, join = pagePeer, pagePeerJoin
	}
	var filters strings.Builder
	for _, f := range []struct {
		on  bool
		sql string
	}{
		{q.forward(), "l.seq > c.seq"},
		{q.Type != "", "l.activity_type = @type"},
		{q.Source == SourceCanvas, "l.source_id IS NULL"},
		{q.Source == SourceAgent, "l.source_id IS NOT NULL"},
		{q.Peer != nil, "(l.source_id = @peer OR l.target_id = @peer)"},
		{q.Since > 0, "l.created_at > statement_timestamp() - @since::interval"},
		{q.Before != nil, "l.created_at < @before"},
	} {
		if f.on {
			filters.WriteString(" AND " + f.sql)
		}
	}
	headSQL := noHead
	if head {
		headSQL = feedHead
	}
	return strings.NewReplacer(
		"{cursor}", strings.Replace(cursor, "{head}", headSQL, 1), "{order}", order, "{filters}", filters.String(),
		"{peer columns}", peer, "{peer join}", join,
	).Replace(pageTemplate)
}

// forward reports that the query has a cursor.
func (q Query) forward() bool { return q.After != nil || q.AfterSeq != nil }

// Page returns entries of the feed of ws: newest first, or with a cursor oldest
// first. A page may be shorter than its limit without the feed being at an end,
// because it is cut by bytes too, but holds at least one entry where there is
// one. ErrCursorNotFound when no entry of this feed has the cursor's id. A
// failure on the way yields no entries at all.
func (a *Activity) Page(ctx context.Context, ws storage.WorkspaceID, q Query) ([]Entry, error) {
	entries, _, err := a.page(ctx, ws, q, false)
	if err != nil {
		return nil, fmt.Errorf("read feed of workspace %s: %w", ws, err)
	}
	return entries, nil
}

// PageHead is Page, and the seq of the newest entry that the feed had at that
// moment whatever the query asks for, 0 for none.
func (a *Activity) PageHead(ctx context.Context, ws storage.WorkspaceID, q Query) (entries []Entry, head int64, err error) {
	entries, head, err = a.page(ctx, ws, q, true)
	if err != nil {
		return nil, 0, fmt.Errorf("read feed of workspace %s: %w", ws, err)
	}
	return entries, head, nil
}

func (a *Activity) page(ctx context.Context, ws storage.WorkspaceID, q Query, wantHead bool) (entries []Entry, head int64, err error) {
	switch {
	case q.Limit <= 0:
		q.Limit = DefaultPageLimit
	case q.Limit > MaxPageLimit:
		q.Limit = MaxPageLimit
	}
	rows, err := a.db.Query(ctx, pageSQL(q, wantHead), a.pageArgs(ws, q))
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	entries, found := []Entry{}, false
	for rows.Next() {
		found = true
		values := rows.RawValues()
		if values[0] == nil {
			// Nothing follows, and of the columns the head alone is there.
			if err := rows.Scan(append(make([]any, len(values)-1), &head)...); err != nil {
				return nil, 0, err
			}
			continue
		}
		var name, role string
		e, err := scanEntry(rows, &name, &role, &head)
		if err != nil {
			return nil, 0, err
		}
		e.PeerName, e.PeerRole = name, role
		entries = append(entries, e)
	}
	if err := rows.Err(); err != nil {
		return nil, 0, err
	}
	if !found {
		return nil, 0, ErrCursorNotFound
	}
	sortEntries(entries, q.forward())
	return entries, head, nil
}

func (a *Activity) pageArgs(ws storage.WorkspaceID, q Query) pgx.NamedArgs {
	args := pgx.NamedArgs{"workspace": wsArg(ws), "limit": int64(q.Limit), "bytes": a.pageBytes * windowFactor}
	if q.forward() {
		args["bytes"] = a.pageBytes
	}
	if q.Bytes > 0 {
		args["bytes"] = q.Bytes
	}
	if q.AfterSeq != nil {
		args["position"] = *q.AfterSeq
	} else if q.After != nil {
		args["after"] = *q.After
	}
	if q.Type != "" {
		args["type"] = q.Type
	}
	if q.Peer != nil {
		args["peer"] = *q.Peer
	}
	if q.Since > 0 {
		args["since"] = q.Since
	}
	if q.Before != nil {
		args["before"] = *q.Before
	}
	return args
}

// sortEntries puts entries in order whatever way the server joined them.
func sortEntries(entries []Entry, oldestFirst bool) {
	slices.SortFunc(entries, func(x, y Entry) int {
		if !oldestFirst {
			x, y = y, x
		}
		return cmp.Compare(x.Seq, y.Seq)
	})
}
