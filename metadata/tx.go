package metadata

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// rollbackTimeout bounds the rollback of a transaction whose context may have
// ended already.
const rollbackTimeout = 5 * time.Second

// idleInTxSQL has the server end a transaction whose client falls silent between
// statements, such as a host that is suspended: a lock on a feed is not held for
// the length of somebody's sleep, and no commit comes out of it hours later.
const idleInTxSQL = `SET LOCAL idle_in_transaction_session_timeout = '20s'`

// inTx runs f in a transaction. Any error or panic of f rolls back. A commit
// whose outcome cannot be known is ErrCommitUnknown.
func inTx(ctx context.Context, db DB, f func(tx pgx.Tx) error) error {
	tx, err := db.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	done := false
	defer func() {
		if done {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		// Whatever made us roll back is the error that counts; a connection
		// that cannot roll back is closed by pgx, which does.
		_ = tx.Rollback(ctx)
	}()
	if err := f(tx); err != nil {
		return err
	}
	err = tx.Commit(ctx)
	done = true
	return commitError(err)
}

// inOneTx runs a batch in one transaction, in two trips to the server: BEGIN
// travels with the batch, COMMIT goes out once its results are good. An error of
// a statement or of its callback rolls back. A commit whose outcome cannot be
// known is ErrCommitUnknown.
func inOneTx(ctx context.Context, db DB, b *pgx.Batch) error {
	pool, ok := db.(*pgxpool.Pool)
	if !ok {
		return inTx(ctx, db, func(tx pgx.Tx) error { return translate(tx.SendBatch(ctx, b).Close()) })
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer conn.Release()
	whole := &pgx.Batch{}
	whole.Queue("BEGIN")
	whole.Queue(idleInTxSQL)
	whole.QueuedQueries = append(whole.QueuedQueries, b.QueuedQueries...)
	if err := conn.SendBatch(ctx, whole).Close(); err != nil {
		// A connection that cannot roll back is closed when it is released.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_, _ = conn.Exec(ctx, "ROLLBACK")
		return translate(err)
	}
	tag, err := conn.Exec(ctx, "COMMIT")
	if err == nil && tag.String() != "COMMIT" {
		err = pgx.ErrTxCommitRollback
	}
	return commitError(err)
}

// inOneStatement runs a batch of one statement, which commits by itself. A
// statement whose outcome cannot be known is ErrCommitUnknown.
func inOneStatement(ctx context.Context, db DB, b *pgx.Batch) error {
	switch pool := db.(type) {
	case sqlDB:
		return pool.inOneStatement(ctx, b)
	case *pgxpool.Pool:
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return fmt.Errorf("acquire connection: %w", err)
		}
		defer conn.Release()
		db = conn
	}
	return commitError(db.SendBatch(ctx, b).Close())
}

// commitError tells commits that were refused from those that may have taken
// effect.
func commitError(err error) error {
	if err == nil {
		return nil
	}
	if commitRefused(err) {
		return fmt.Errorf("commit: %w", translate(err))
	}
	return fmt.Errorf("%w: %w", ErrCommitUnknown, err)
}

// commitRefused reports that the transaction certainly did not commit: the
// server said so and stayed up, or was never asked. A FATAL error is no such
// answer, because it may follow a commit that is already on disk.
func commitRefused(err error) bool {
	if errors.Is(err, pgx.ErrTxCommitRollback) || errors.Is(err, pgx.ErrTxClosed) || pgconn.SafeToRetry(err) {
		return true
	}
	var connect *pgconn.ConnectError
	var network *net.OpError
	if errors.As(err, &connect) || errors.As(err, &network) && network.Op == "dial" {
		return true
	}
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.SeverityUnlocalized == "ERROR"
}
