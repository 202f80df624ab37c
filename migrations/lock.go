package migrations

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/pressly/goose/v3/lock"
)

// lockID is this module's key in PostgreSQL's space of advisory locks, chosen
// at random, so that other software's migrations in the same database neither
// wait for ours nor we for theirs.
const lockID int64 = 5437108264913075241

// sessionLock holds the advisory lock on the migrating connection. It waits in
// the server, so a replica goes on the moment the one before it is done; the
// locker that goose brings asks again at intervals of a second or more, which
// many replicas starting at once would wait for one after the other. It waits for
// as long as the context lives, whatever lock_timeout the session brings.
type sessionLock struct{}

var _ lock.SessionLocker = sessionLock{}

// SessionLock implements lock.SessionLocker.
func (sessionLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
	if err := lockPatiently(ctx, conn); err != nil {
		return fmt.Errorf("wait for other migrators: %w", err)
	}
	return nil
}

// lockPatiently takes the lock, which the session holds on to, in a transaction,
// which the change of lock_timeout ends with.
func lockPatiently(ctx context.Context, conn *sql.Conn) error {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for _, statement := range []struct {
		sql  string
		args []any
	}{{"SET LOCAL lock_timeout = 0", nil}, {"SELECT pg_advisory_lock($1)", []any{lockID}}} {
		if _, err := tx.ExecContext(ctx, statement.sql, statement.args...); err != nil {
			_ = tx.Rollback()
			return err
		}
	}
	return tx.Commit()
}

// SessionUnlock implements lock.SessionLocker.
func (sessionLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", lockID); err != nil {
		return fmt.Errorf("release the migration lock: %w", err)
	}
	return nil
}
