package metadata

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/molecule-ai/pendinguploads/storage"
)

// lockQuotaSQL lets one insertion at a time of a workspace look at its usage and
// add to it, on whatever replica, feed or none. The number tells these advisory
// locks from those of others; two workspaces of one hash only wait for each other.
//
// It is taken before the feed's head, and by whoever inserts alone: other writers
// of the feed do not wait while rows are counted, and no two can wait for each
// other. A transaction of the caller's that inserts and writes to the same feed
// inserts first.
const lockQuotaSQL = `SELECT pg_advisory_xact_lock(hashtextextended(@workspace::uuid::text, 6203318945))`

// usageSQL is a statement after the lock's: one that takes the lock itself would
// count what its snapshot saw before it waited. The files that are about to be
// inserted do not count twice where they are there already, so that this is what
// the insertion fails for (AlreadyInserted). What counts is what Get would find,
// which the index of unacked rows yields.
const (
	usageSQL = `
SELECT count(*), coalesce(sum(size_bytes), 0)::bigint,
       current_setting('transaction_isolation') IN ('read committed', 'read uncommitted')
       OR current_setting('transaction_isolation') = 'serializable' AND current_setting('default_transaction_isolation') = 'serializable'
FROM pending_uploads
WHERE workspace_id = @workspace AND acked_at IS NULL AND expires_at > statement_timestamp()
  AND file_id <> ALL (@files::text[]::uuid[])`

	usageUnsweptSQL = usageSQL + ` AND sweeping_at IS NULL`
)

// errQuotaIsolation is a transaction that does not see what others have committed
// since it began. PostgreSQL has one that is serializable fail for that where the
// others are serializable too, which the default of all sessions says.
var errQuotaIsolation = errors.New("a quota cannot be checked in a transaction that is repeatable read, or serializable beside others that are not: want read committed")

// CheckQuota reports whether the workspace has room for what is to be added, at
// this moment: a *storage.QuotaError. It spares those who are over their quota the
// way to Insert, which is what enforces it. Without a quota it does no I/O.
func (u *Uploads) CheckQuota(ctx context.Context, ws storage.WorkspaceID, adding storage.Usage) error {
	if u.quota == (storage.Quota{}) {
		return nil
	}
	rows, err := u.db.Query(ctx, u.usageSQL(), usageArgs(ws, nil))
	if err == nil {
		err = u.judge(rows, adding, false)
	}
	if err != nil {
		return fmt.Errorf("check quota of workspace %s: %w", ws, err)
	}
	return nil
}

// queueQuota adds the check of the quota to the batch that goes on to insert. In a
// transaction of the caller's it runs at once: after an error he could commit what
// the rest of a batch had inserted.
func (u *Uploads) queueQuota(ctx context.Context, b *pgx.Batch, ws storage.WorkspaceID, uploads []NewUpload) error {
	if u.quota == (storage.Quota{}) {
		return nil
	}
	if u.within {
		b = &pgx.Batch{}
	}
	adding := storage.Usage{Files: int64(len(uploads))}
	for _, up := range uploads {
		adding.Bytes += up.Size
	}
	b.Queue(lockQuotaSQL, pgx.NamedArgs{"workspace": wsArg(ws)})
	b.Queue(u.usageSQL(), usageArgs(ws, uploads)).Query(func(rows pgx.Rows) error { return u.judge(rows, adding, true) })
	if u.within {
		return u.send(ctx, b)
	}
	return nil
}

func (u *Uploads) usageSQL() string {
	if u.sql.reference {
		return usageSQL
	}
	return usageUnsweptSQL
}

func usageArgs(ws storage.WorkspaceID, uploads []NewUpload) pgx.NamedArgs {
	files := make([]string, len(uploads))
	for i, up := range uploads {
		files[i] = up.FileID.String()
	}
	return pgx.NamedArgs{"workspace": wsArg(ws), "files": files}
}

// judge reads the result of the usage's statement. Exactly: others that committed
// before must have been counted.
func (u *Uploads) judge(rows pgx.Rows, adding storage.Usage, exactly bool) error {
	type row struct {
		storage.Usage
		sees bool
	}
	used, err := pgx.CollectExactlyOneRow(rows, func(r pgx.CollectableRow) (row, error) {
		var used row
		err := r.Scan(&used.Files, &used.Bytes, &used.sees)
		return used, err
	})
	switch {
	case err != nil:
		return err
	case exactly && !used.sees:
		return errQuotaIsolation
	}
	return u.quota.Check(used.Usage, adding)
}
