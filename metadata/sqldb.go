package metadata

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// FromSQL makes a DB of a database/sql pool, whatever its PostgreSQL driver:
// programs that embed the storage bring their own. It is for Uploads alone, whose
// statements stay the same; arguments, results and errors are translated.
func FromSQL(db *sql.DB) DB { return sqlDB{sqlQuerier{db}, db} }

// FromSQLTx is FromSQL in a transaction of the caller's, which is neither
// committed nor rolled back here.
func FromSQLTx(tx *sql.Tx) DB { return sqlTx{sqlQuerier{tx}, nil} }

// errNotOnSQL is what a DB of database/sql answers to what Uploads never asks.
var errNotOnSQL = errors.New("not available on database/sql")

// sqlDB is a pool.
type sqlDB struct {
	sqlQuerier
	db *sql.DB
}

// Begin implements DB. database/sql would roll back at the moment ctx ends, beside
// a commit that is on its way too, so it does not get to know.
func (s sqlDB) Begin(ctx context.Context) (pgx.Tx, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	tx, err := s.db.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return nil, sqlError(err)
	}
	return sqlTx{sqlQuerier{tx}, tx}, nil
}

// SendBatch implements DB for one statement, which is a transaction by itself.
func (s sqlDB) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if b.Len() > 1 {
		return pgx.FailedBatchResults(b, errNotOnSQL)
	}
	return &sqlBatch{ctx: ctx, q: s.sqlQuerier, queries: b.QueuedQueries}
}

// inOneStatement is the function of that name. A pool of database/sql repeats what
// a connection broke off (driver.ErrBadConn), unseen, and what the repetition meets
// says nothing of the first time: its own row, a server that is down, one that only
// reads by now. So the first goes out on a connection that repeats nothing, and a
// repetition that fails is ErrCommitUnknown, however it fails.
func (s sqlDB) inOneStatement(ctx context.Context, b *pgx.Batch) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("acquire connection: %w", sqlError(err))
	}
	first := func() error {
		defer func() { _ = conn.Close() }()
		return (&sqlBatch{ctx: ctx, q: sqlQuerier{conn}, queries: b.QueuedQueries}).Close()
	}
	if err := first(); !errors.Is(err, driver.ErrBadConn) {
		return commitError(err)
	}
	if err := s.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("%w: %w", ErrCommitUnknown, translate(err))
	}
	return nil
}

// sqlTx is a transaction: the caller's where own is nil.
type sqlTx struct {
	sqlQuerier
	own *sql.Tx
}

// Begin implements DB: what runs in it runs in the same transaction.
func (s sqlTx) Begin(context.Context) (pgx.Tx, error) { return sqlTx{s.sqlQuerier, nil}, nil }

// Commit implements pgx.Tx.
func (s sqlTx) Commit(context.Context) error { return s.end((*sql.Tx).Commit) }

// Rollback implements pgx.Tx.
func (s sqlTx) Rollback(context.Context) error { return s.end((*sql.Tx).Rollback) }

func (s sqlTx) end(how func(*sql.Tx) error) error {
	if s.own == nil {
		return nil
	}
	return sqlError(how(s.own))
}

// SendBatch implements DB: one statement after the other.
func (s sqlTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	return &sqlBatch{ctx: ctx, q: s.sqlQuerier, queries: b.QueuedQueries}
}

// CopyFrom implements pgx.Tx.
func (sqlTx) CopyFrom(context.Context, pgx.Identifier, []string, pgx.CopyFromSource) (int64, error) {
	return 0, errNotOnSQL
}

// LargeObjects implements pgx.Tx.
func (sqlTx) LargeObjects() pgx.LargeObjects { return pgx.LargeObjects{} }

// Prepare implements pgx.Tx.
func (sqlTx) Prepare(context.Context, string, string) (*pgconn.StatementDescription, error) {
	return nil, errNotOnSQL
}

// Conn implements pgx.Tx.
func (sqlTx) Conn() *pgx.Conn { return nil }

// sqlBatch runs queued statements when it is asked for their results.
type sqlBatch struct {
	ctx     context.Context
	q       sqlQuerier
	queries []*pgx.QueuedQuery
	err     error
}

func (b *sqlBatch) next() (*pgx.QueuedQuery, error) {
	if len(b.queries) == 0 {
		return nil, errors.New("no statement is left in the batch")
	}
	q := b.queries[0]
	b.queries = b.queries[1:]
	return q, nil
}

// Exec implements pgx.BatchResults.
func (b *sqlBatch) Exec() (pgconn.CommandTag, error) {
	q, err := b.next()
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	return b.q.Exec(b.ctx, q.SQL, q.Arguments...)
}

// Query implements pgx.BatchResults.
func (b *sqlBatch) Query() (pgx.Rows, error) {
	q, err := b.next()
	if err != nil {
		return &sqlRows{err: err}, err
	}
	return b.q.Query(b.ctx, q.SQL, q.Arguments...)
}

// QueryRow implements pgx.BatchResults.
func (b *sqlBatch) QueryRow() pgx.Row {
	rows, err := b.Query()
	return sqlRow{rows, err}
}

// Close implements pgx.BatchResults.
func (b *sqlBatch) Close() error {
	for b.err == nil && len(b.queries) > 0 {
		if callback := b.queries[0].Fn; callback != nil {
			b.err = callback(b)
		} else {
			_, b.err = b.Exec()
		}
	}
	return b.err
}

// Tx implements pgx.BatchResults.
func (*sqlBatch) Tx() pgx.Tx { return nil }

// sqlQuerier runs statements of pgx's form.
type sqlQuerier struct {
	q interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	}
}

// Exec implements DB.
func (s sqlQuerier) Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error) {
	query, args, err := sqlStatement(ctx, query, args)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	result, err := s.q.ExecContext(ctx, query, args...)
	if err != nil {
		return pgconn.CommandTag{}, sqlError(err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return pgconn.CommandTag{}, sqlError(err)
	}
	return pgconn.NewCommandTag(fmt.Sprintf("UPDATE %d", n)), nil
}

// Query implements DB. As with pgx, there are rows to close also where it failed.
func (s sqlQuerier) Query(ctx context.Context, query string, args ...any) (pgx.Rows, error) {
	query, args, err := sqlStatement(ctx, query, args)
	if err != nil {
		return &sqlRows{err: err}, err
	}
	rows, err := s.q.QueryContext(ctx, query, args...) //nolint:sqlclosecheck,rowserrcheck // whoever gets the rows reads and closes them
	if err != nil {
		err = sqlError(err)
		return &sqlRows{err: err}, err
	}
	return &sqlRows{rows: rows}, nil
}

// QueryRow implements DB.
func (s sqlQuerier) QueryRow(ctx context.Context, query string, args ...any) pgx.Row {
	rows, err := s.Query(ctx, query, args...)
	return sqlRow{rows, err}
}
