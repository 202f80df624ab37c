package metadata

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/storage"
)

// appendSQL advances the feed's head and inserts, in one statement. The upsert
// takes the head's row lock first and reads head and clock only once it has it,
// so seq and created_at are allocated in the order of commits. Each row is one
// microsecond after the one before it, the finest step there is. A notification
// is delivered when the transaction commits, and lost with it when it does not.
//
// The workspace is locked before its feed, the way its purge takes them. The lock
// is the one that the foreign keys take later anyway; heartbeats go on beside it.
const appendSQL = `
WITH feed AS (
    INSERT INTO activity_feeds AS f (workspace_id, last_seq, last_at)
    SELECT w.id, @n::bigint, clock_timestamp()
    FROM workspaces w
    WHERE w.id = @workspace AND w.status <> 'removed'
    FOR KEY SHARE OF w
    ON CONFLICT (workspace_id) DO UPDATE
    SET last_seq = f.last_seq + @n::bigint,
        last_at = greatest(clock_timestamp(), f.last_at + @n::bigint * interval '1 microsecond')
    RETURNING f.last_seq, f.last_at, CASE WHEN @notify THEN pg_notify('` + Channel + `', f.workspace_id::text) END AS notified
)
INSERT INTO activity_logs
    (workspace_id, seq, created_at, activity_type, source_id, target_id, method, summary, error_detail,
     request_body, response_body, tool_trace, body_bytes, duration_ms, status, message_id)
SELECT @workspace, feed.last_seq - @n::bigint + t.n, feed.last_at - (@n::bigint - t.n) * interval '1 microsecond',
       t.activity_type, t.source_id, t.target_id, t.method, t.summary, t.error_detail,
       t.request_body::jsonb, t.response_body::jsonb, t.tool_trace::jsonb, t.body_bytes, t.duration_ms, t.status, t.message_id
FROM feed, unnest(
    @types::text[], @sources::text[]::uuid[], @targets::text[]::uuid[], @methods::text[], @summaries::text[],
    @details::text[], @requests::text[], @responses::text[], @traces::text[], @bytes::bigint[],
    @durations::integer[], @statuses::text[], @messages::text[])
    WITH ORDINALITY AS t (activity_type, source_id, target_id, method, summary, error_detail,
     request_body, response_body, tool_trace, body_bytes, duration_ms, status, message_id, n)
RETURNING id, seq, created_at`

// Append writes entries to the feed of ws, in order and all or none, and
// returns them as stored. storage.ErrWorkspaceNotFound, also for a removed
// workspace; ErrInvalidJSON.
func (a *Activity) Append(ctx context.Context, ws storage.WorkspaceID, entries ...NewEntry) ([]Entry, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	written, err := a.append(ctx, ws, entries)
	if err != nil {
		return nil, fmt.Errorf("append %d entries to feed of workspace %s: %w", len(entries), ws, err)
	}
	a.publish(written)
	return written, nil
}

func (a *Activity) publish(entries []Entry) {
	if a.publisher != nil && len(entries) > 0 {
		a.publisher.Publish(entries)
	}
}

func (a *Activity) append(ctx context.Context, ws storage.WorkspaceID, entries []NewEntry) ([]Entry, error) {
	args, written, err := a.appendArgs(ws, entries)
	if err != nil {
		return nil, err
	}
	rows, err := a.db.Query(ctx, appendSQL, args)
	if err != nil {
		return nil, translate(err)
	}
	return written, assignKeys(rows, written)
}

// appendArgs are the arguments of appendSQL, and the entries as they will read
// once assignKeys has seen its result. The statement holds the lock on the
// feed's head to the end of the transaction it runs in.
func (a *Activity) appendArgs(ws storage.WorkspaceID, entries []NewEntry) (pgx.NamedArgs, []Entry, error) {
	n := len(entries)
	var (
		types, statuses             = make([]string, n), make([]string, n)
		sources, targets            = make([]*string, n), make([]*string, n)
		methods, summaries, details = make([]*string, n), make([]*string, n), make([]*string, n)
		requests, responses, traces = make([]*string, n), make([]*string, n), make([]*string, n)
		bytes, durations, messages  = make([]int64, n), make([]*int, n), make([]*string, n)
		written                     = make([]Entry, n)
	)
	for i, e := range entries {
		w, size, err := newEntry(ws, e)
		if err != nil {
			return nil, nil, err
		}
		written[i] = w
		types[i], statuses[i] = w.ActivityType, w.Status
		sources[i], targets[i] = idText(w.SourceID), idText(w.TargetID)
		methods[i], summaries[i], details[i] = w.Method, w.Summary, w.ErrorDetail
		requests[i], responses[i], traces[i] = textOf(w.RequestBody), textOf(w.ResponseBody), textOf(w.ToolTrace)
		bytes[i] = size
		durations[i], messages[i] = w.DurationMS, w.MessageID
	}
	return pgx.NamedArgs{
		"workspace": wsArg(ws), "notify": a.notify, "n": int64(n), "types": types, "sources": sources, "targets": targets,
		"methods": methods, "summaries": summaries, "details": details, "requests": requests,
		"responses": responses, "traces": traces, "bytes": bytes, "durations": durations,
		"statuses": statuses, "messages": messages,
	}, written, nil
}

// assignKeys reads the result of appendSQL into the entries it wrote.
func assignKeys(rows pgx.Rows, written []Entry) error {
	type key struct {
		id  uuid.UUID
		seq int64
		at  time.Time
	}
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (key, error) {
		var k key
		err := row.Scan(&k.id, &k.seq, &k.at)
		return k, err
	})
	if err != nil {
		return translate(err)
	}
	if len(keys) == 0 {
		return storage.ErrWorkspaceNotFound
	}
	slices.SortFunc(keys, func(x, y key) int { return cmp.Compare(x.seq, y.seq) })
	for i, k := range keys {
		written[i].ID, written[i].Seq, written[i].CreatedAt = k.id, k.seq, k.at
	}
	return nil
}

// newEntry is the entry as it will read once stored, but for the notation of
// numbers, and how many bytes its bodies have then.
func newEntry(ws storage.WorkspaceID, e NewEntry) (w Entry, size int64, err error) {
	w = Entry{
		WorkspaceID:  ws,
		ActivityType: e.ActivityType,
		SourceID:     e.SourceID,
		TargetID:     e.TargetID,
		Method:       e.Method,
		Summary:      e.Summary,
		ErrorDetail:  e.ErrorDetail,
		DurationMS:   e.DurationMS,
		Status:       e.Status,
		MessageID:    e.MessageID,
	}
	if w.Status == "" {
		w.Status = StatusOK
	}
	for _, body := range []struct {
		dst *json.RawMessage
		src json.RawMessage
	}{{&w.RequestBody, e.RequestBody}, {&w.ResponseBody, e.ResponseBody}, {&w.ToolTrace, e.ToolTrace}} {
		doc, err := compact(body.src)
		if err != nil {
			return Entry{}, 0, err
		}
		stored, err := storedSize(doc)
		if err != nil {
			return Entry{}, 0, err
		}
		*body.dst = doc
		size += stored
	}
	return w, size, nil
}

func idText(id *uuid.UUID) *string {
	if id == nil {
		return nil
	}
	s := id.String()
	return &s
}

// AppendMessage is Append for one entry that is stored once: where the feed has
// an entry with the same MessageID, that one is returned, inserted is false, and
// nothing is written or published. Without a MessageID it always inserts.
func (a *Activity) AppendMessage(ctx context.Context, ws storage.WorkspaceID, e NewEntry) (entry Entry, inserted bool, err error) {
	written, err := a.append(ctx, ws, []NewEntry{e})
	if violates(err, constraintMessage) {
		// The statement was undone as a whole, so no seq is lost.
		entry, err = a.message(ctx, ws, *e.MessageID)
		return entry, false, err
	}
	if err != nil {
		return Entry{}, false, fmt.Errorf("append message to feed of workspace %s: %w", ws, err)
	}
	a.publish(written)
	return written[0], true, nil
}

const messageSQL = `SELECT ` + entryColumns + `
FROM activity_logs l
WHERE l.workspace_id = @workspace AND l.message_id = @message`

func (a *Activity) message(ctx context.Context, ws storage.WorkspaceID, id string) (Entry, error) {
	rows, err := a.db.Query(ctx, messageSQL, pgx.NamedArgs{"workspace": wsArg(ws), "message": id})
	if err != nil {
		return Entry{}, fmt.Errorf("find message in feed of workspace %s: %w", ws, err)
	}
	entry, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (Entry, error) { return scanEntry(row) })
	if errors.Is(err, pgx.ErrNoRows) {
		err = storage.ErrWorkspaceNotFound // purged in between, with its feed
	}
	if err != nil {
		return Entry{}, fmt.Errorf("find message in feed of workspace %s: %w", ws, err)
	}
	return entry, nil
}
