package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/google/uuid"
)

const (
	feedPage    = 100       // entries, unless asked for otherwise
	maxFeedPage = 500       // entries
	maxSince    = 2_592_000 // seconds: 30 days
)

// logUploads writes one entry for each file, in their order. Writers of one
// workspace take turns until they commit: otherwise an entry could commit behind a
// reader's cursor and never be seen.
func logUploads(ctx context.Context, tx *sql.Tx, workspaceID uuid.UUID, uploads []upload) error {
	const takeTurns = `SELECT pg_advisory_xact_lock(hashtextextended($1::uuid::text, 0))`
	if _, err := tx.ExecContext(ctx, takeTurns, workspaceID); err != nil {
		return fmt.Errorf("lock feed: %w", err)
	}
	const insert = `
		INSERT INTO activity_logs (workspace_id, target_id, activity_type, method, summary, request_body)
		VALUES ($1, $1, 'a2a_receive', 'chat_upload_receive', $2, $3)`
	for _, u := range uploads {
		body, err := json.Marshal(u)
		if err == nil {
			_, err = tx.ExecContext(ctx, insert, workspaceID, "chat_upload_receive: "+u.Name, string(body))
		}
		if err != nil {
			return fmt.Errorf("log upload: %w", err)
		}
	}
	return nil
}

// feedQuery is what a poller asks for.
type feedQuery struct {
	kind   string    // "" is every activity_type
	cursor uuid.UUID // last entry seen
	resume bool      // entries after cursor, oldest first; otherwise the newest first
	since  int       // entries of the last so many seconds; 0 is all
	limit  int       // entries
}

// errCursor: the cursor is no entry of this workspace's feed. No other status makes
// pollers drop it.
var errCursor = refuse(http.StatusGone,
	"since_id cursor not found (row may have been pruned or belongs to a different workspace); omit since_id to reset")

func parseFeedQuery(values url.Values) (q feedQuery, err error) {
	q.kind = values.Get("type")
	if q.limit, err = strconv.Atoi(values.Get("limit")); err != nil || q.limit < 1 || q.limit > maxFeedPage {
		q.limit = feedPage
	}
	if values.Has("since_secs") {
		if q.since, err = strconv.Atoi(values.Get("since_secs")); err != nil || q.since < 1 {
			return q, refuse(http.StatusBadRequest, "since_secs must be a positive integer")
		}
		q.since = min(q.since, maxSince)
	}
	if q.resume = values.Has("since_id"); q.resume {
		if q.cursor, err = uuid.Parse(values.Get("since_id")); err != nil {
			return q, errCursor
		}
	}
	return q, nil
}

// activity is the feed that workspaces poll.
func (p *platform) activity(w http.ResponseWriter, r *http.Request, workspaceID uuid.UUID) error {
	query, err := parseFeedQuery(r.URL.Query())
	if err != nil {
		return err
	}
	entries, err := feed(r.Context(), p.db, workspaceID, query)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, entries)
	return nil
}

// feed reads a page of entries: the columns of the table are what pollers expect.
func feed(ctx context.Context, db *sql.DB, workspaceID uuid.UUID, q feedQuery) ([]json.RawMessage, error) {
	var after int64 // no entry has seq 0
	order := "DESC"
	if q.resume {
		order = "ASC"
		err := db.QueryRowContext(ctx, `SELECT seq FROM activity_logs WHERE workspace_id = $1 AND id = $2`, workspaceID, q.cursor).Scan(&after)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, errCursor
		}
		if err != nil {
			return nil, fmt.Errorf("look up cursor: %w", err)
		}
	}
	rows, err := db.QueryContext(ctx, `
		SELECT to_jsonb(entry) FROM activity_logs entry
		WHERE workspace_id = $1 AND seq > $2 AND $3 IN ('', activity_type)
			AND ($4::int = 0 OR created_at > now() - make_interval(secs => $4::int))
		ORDER BY seq `+order+` LIMIT $5`, workspaceID, after, q.kind, q.since, q.limit)
	if err != nil {
		return nil, fmt.Errorf("read feed: %w", err)
	}
	defer func() { _ = rows.Close() }()
	entries := []json.RawMessage{}
	for rows.Next() {
		var entry json.RawMessage
		if err := rows.Scan(&entry); err != nil {
			return nil, fmt.Errorf("read feed: %w", err)
		}
		entries = append(entries, entry)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read feed: %w", err)
	}
	return entries, nil
}
