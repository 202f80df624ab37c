package metadata

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// DefaultAckedRetention is how long entries stay that their workspace has
	// consumed (contract 9.4).
	DefaultAckedRetention = 7 * 24 * time.Hour

	// DefaultHardRetention is how long any entry stays (contract 9.4).
	DefaultHardRetention = 30 * 24 * time.Hour
)

// Retention says how long feed entries stay.
type Retention struct {
	Acked time.Duration // those up to the acked seq; DefaultAckedRetention when 0
	Hard  time.Duration // all; DefaultHardRetention when 0
}

// Both statements go through the feeds, of which there are few, and enter each
// at its old end by index. The keys go through arrays for the reason given at markDueSQL.
const (
	pruneHardSQL = `
WITH old AS (
    SELECT l.workspace_id, l.id
    FROM activity_feeds f
    CROSS JOIN LATERAL (
        SELECT workspace_id, id
        FROM activity_logs
        WHERE workspace_id = f.workspace_id
          AND created_at < statement_timestamp() - @age::interval
        ORDER BY created_at, seq
        LIMIT @limit
        FOR UPDATE SKIP LOCKED
    ) l
    LIMIT @limit
)
DELETE FROM activity_logs l
USING unnest(ARRAY(SELECT workspace_id FROM old), ARRAY(SELECT id FROM old)) AS t (workspace_id, id)
WHERE l.workspace_id = t.workspace_id AND l.id = t.id`

	// The row of the acked number itself stays: it is the cursor of whoever acked,
	// and without it a receiver that slept for a week would have to begin anew.
	pruneAckedSQL = `
WITH old AS (
    SELECT l.workspace_id, l.id
    FROM inbox_delivery_state d
    CROSS JOIN LATERAL (
        SELECT workspace_id, id
        FROM activity_logs
        WHERE workspace_id = d.workspace_id
          AND created_at < statement_timestamp() - @age::interval
          AND seq < d.last_acked_seq
        ORDER BY created_at, seq
        LIMIT @limit
        FOR UPDATE SKIP LOCKED
    ) l
    LIMIT @limit
)
DELETE FROM activity_logs l
USING unnest(ARRAY(SELECT workspace_id FROM old), ARRAY(SELECT id FROM old)) AS t (workspace_id, id)
WHERE l.workspace_id = t.workspace_id AND l.id = t.id`
)

// Prune deletes at most limit entries that are past their retention and returns
// how many; fewer than limit means that nothing more is due that no other
// replica is deleting. A cursor on a deleted entry becomes ErrCursorNotFound;
// seq goes on where it was.
func (a *Activity) Prune(ctx context.Context, r Retention, limit int) (int64, error) {
	if limit <= 0 {
		return 0, nil
	}
	if r.Acked <= 0 {
		r.Acked = DefaultAckedRetention
	}
	if r.Hard <= 0 {
		r.Hard = DefaultHardRetention
	}
	var pruned int64
	for _, step := range []struct {
		sql string
		age time.Duration
	}{{pruneHardSQL, r.Hard}, {pruneAckedSQL, r.Acked}} {
		rest := int64(limit) - pruned
		if rest == 0 {
			break
		}
		tag, err := a.db.Exec(ctx, step.sql, pgx.NamedArgs{"age": step.age, "limit": rest})
		if err != nil {
			return pruned, fmt.Errorf("prune feeds: %w", err)
		}
		pruned += tag.RowsAffected()
	}
	return pruned, nil
}
