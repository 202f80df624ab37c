package metadata

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/internal/linger"
	"github.com/molecule-ai/pendinguploads/storage"
)

// markDueSQL passes the keys through arrays, which the planner takes for short:
// it then updates by key. Joined to the select whose limit it does not know, it
// may decide to read the whole table.
const markDueSQL = `
WITH acked AS (
    SELECT workspace_id, file_id
    FROM pending_uploads
    WHERE acked_at IS NOT NULL
      AND acked_at < statement_timestamp() - make_interval(secs => @retention)
      AND sweeping_at IS NULL
    ORDER BY acked_at
    LIMIT @limit
    FOR UPDATE SKIP LOCKED
), expired AS (
    SELECT workspace_id, file_id
    FROM pending_uploads
    WHERE acked_at IS NULL
      AND expires_at < statement_timestamp()
      AND sweeping_at IS NULL
    ORDER BY expires_at
    LIMIT @limit - (SELECT count(*) FROM acked)
    FOR UPDATE SKIP LOCKED
), due AS (
    SELECT workspace_id, file_id FROM acked
    UNION ALL
    SELECT workspace_id, file_id FROM expired
)
UPDATE pending_uploads p
SET sweeping_at = statement_timestamp()
FROM unnest(ARRAY(SELECT workspace_id FROM due), ARRAY(SELECT file_id FROM due)) AS t (workspace_id, file_id)
WHERE p.workspace_id = t.workspace_id AND p.file_id = t.file_id`

// MarkDue claims at most limit rows for SweepDue and returns how many: rows
// acked longer than retention ago, and rows that expired unacked. Retention is
// cut to whole seconds, negative is 0; both comparisons are strict. Rows that
// others hold are passed over. A marked row is no longer served by any method.
func (u *Uploads) MarkDue(ctx context.Context, retention time.Duration, limit int) (int, error) {
	if limit <= 0 {
		return 0, nil
	}
	tag, err := u.db.Exec(ctx, markDueSQL, pgx.NamedArgs{
		"retention": wholeSeconds(retention), "limit": int64(limit),
	})
	if err != nil {
		return 0, fmt.Errorf("mark uploads that are due: %w", translate(err))
	}
	return int(tag.RowsAffected()), nil
}

// wholeSeconds is the retention as the comparison wants it.
func wholeSeconds(retention time.Duration) float64 {
	return float64(max(retention, 0) / time.Second)
}

const takeMarkedSQL = `
SELECT workspace_id, file_id, coalesce(object_key, ''), acked_at IS NOT NULL
FROM pending_uploads
WHERE sweeping_at IS NOT NULL
ORDER BY sweeping_at
LIMIT @limit
FOR UPDATE SKIP LOCKED`

const deleteMarkedSQL = `
DELETE FROM pending_uploads p
USING unnest(@workspaces::text[]::uuid[], @files::text[]::uuid[]) AS t (workspace_id, file_id)
WHERE p.workspace_id = t.workspace_id AND p.file_id = t.file_id`

const requeueMarkedSQL = `
UPDATE pending_uploads p
SET sweeping_at = clock_timestamp()
FROM unnest(@workspaces::text[]::uuid[], @files::text[]::uuid[]) AS t (workspace_id, file_id)
WHERE p.workspace_id = t.workspace_id AND p.file_id = t.file_id`

// SweepDue takes at most limit marked rows that no other sweeper holds, calls
// discard with the keys of their objects (not at all when there are none),
// deletes the rows and returns how many of each kind there were. Objects go
// first: when discard fails their rows stay, marked, and when the deletion is
// lost the next call finds the rows again, so discard must accept keys whose
// objects are gone. Rows whose objects could not be discarded, in the time that
// ctx leaves too, go to the end of the queue, so that they do not keep others
// from being swept; rows with inline content go all the same, and are counted
// beside the error.
func (u *Uploads) SweepDue(ctx context.Context, limit int, discard func(ctx context.Context, keys []string) error) (storage.SweepResult, error) {
	if limit <= 0 {
		return storage.SweepResult{}, nil
	}
	if err := ctx.Err(); err != nil {
		return storage.SweepResult{}, fmt.Errorf("sweep due uploads: %w", err)
	}
	var gone markedRows
	var discardErr error
	// What discard did, or took too long to do, is written down in any case.
	rows, cancel := linger.Context(ctx, rollbackTimeout)
	defer cancel()
	err := inTx(rows, u.db, func(tx pgx.Tx) error {
		inline, objects, err := takeMarked(rows, tx, limit)
		if err != nil {
			return err
		}
		gone = inline
		if len(objects.keys) > 0 {
			if discardErr = discard(ctx, objects.keys); discardErr != nil {
				err = objects.exec(rows, tx, requeueMarkedSQL)
			} else {
				gone = inline.and(objects)
			}
		}
		if err != nil {
			return err
		}
		return gone.exec(rows, tx, deleteMarkedSQL)
	})
	if err != nil {
		gone = markedRows{}
	}
	result := storage.SweepResult{Acked: gone.acked, Expired: len(gone.files) - gone.acked}
	if discardErr != nil {
		return result, fmt.Errorf("discard objects of due uploads: %w", errors.Join(discardErr, err))
	}
	if err != nil {
		return result, fmt.Errorf("sweep due uploads: %w", err)
	}
	return result, nil
}

const sweepReferenceSQL = `
WITH acked AS (
    SELECT file_id
    FROM pending_uploads
    WHERE acked_at IS NOT NULL AND acked_at < statement_timestamp() - make_interval(secs => @retention)
    ORDER BY acked_at
    LIMIT @limit
    FOR UPDATE SKIP LOCKED
), expired AS (
    SELECT file_id
    FROM pending_uploads
    WHERE acked_at IS NULL AND expires_at < statement_timestamp()
    ORDER BY expires_at
    LIMIT @limit - (SELECT count(*) FROM acked)
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM pending_uploads p
    USING unnest(ARRAY(SELECT file_id FROM acked UNION ALL SELECT file_id FROM expired)) AS t (file_id)
    WHERE p.file_id = t.file_id
    RETURNING p.acked_at IS NOT NULL AS acked
)
SELECT count(*) FILTER (WHERE acked), count(*) FILTER (WHERE NOT acked) FROM gone`

// Sweep is MarkDue and then SweepDue, each for at most limit rows. On the
// reference table, where there are no objects that have to go first, it is one
// statement with the same rules (contract 3.2).
func (u *Uploads) Sweep(ctx context.Context, retention time.Duration, limit int, discard func(ctx context.Context, keys []string) error) (storage.SweepResult, error) {
	if u.sql.reference {
		return u.sweepReference(ctx, retention, limit)
	}
	if _, err := u.MarkDue(ctx, retention, limit); err != nil {
		return storage.SweepResult{}, err
	}
	return u.SweepDue(ctx, limit, discard)
}

func (u *Uploads) sweepReference(ctx context.Context, retention time.Duration, limit int) (storage.SweepResult, error) {
	var r storage.SweepResult
	if limit <= 0 {
		return r, nil
	}
	err := u.db.QueryRow(ctx, sweepReferenceSQL, pgx.NamedArgs{
		"retention": wholeSeconds(retention), "limit": int64(limit),
	}).Scan(&r.Acked, &r.Expired)
	if err != nil {
		return storage.SweepResult{}, fmt.Errorf("sweep due uploads: %w", translate(err))
	}
	return r, nil
}

// markedRows are rows that a sweep has locked.
type markedRows struct {
	workspaces, files []string
	keys              []string // of those that lie in objects
	acked             int      // how many of the rows were acked
}

// takeMarked locks rows and tells those with inline content from those whose
// content lies in objects.
func takeMarked(ctx context.Context, tx pgx.Tx, limit int) (inline, objects markedRows, err error) {
	rows, err := tx.Query(ctx, takeMarkedSQL, pgx.NamedArgs{"limit": int64(limit)})
	if err != nil {
		return markedRows{}, markedRows{}, err
	}
	var ws, file uuid.UUID
	var key string
	var acked bool
	_, err = pgx.ForEachRow(rows, []any{&ws, &file, &key, &acked}, func() error {
		marked := &inline
		if key != "" {
			marked = &objects
			marked.keys = append(marked.keys, key)
		}
		marked.workspaces = append(marked.workspaces, ws.String())
		marked.files = append(marked.files, file.String())
		if acked {
			marked.acked++
		}
		return nil
	})
	return inline, objects, err
}

// and is both together.
func (m markedRows) and(other markedRows) markedRows {
	return markedRows{
		workspaces: slices.Concat(m.workspaces, other.workspaces),
		files:      slices.Concat(m.files, other.files),
		keys:       slices.Concat(m.keys, other.keys),
		acked:      m.acked + other.acked,
	}
}

// exec runs a statement over the rows.
func (m markedRows) exec(ctx context.Context, tx pgx.Tx, sql string) error {
	if len(m.files) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, sql, pgx.NamedArgs{"workspaces": m.workspaces, "files": m.files})
	return err
}
