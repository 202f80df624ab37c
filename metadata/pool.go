package metadata

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// DB is what this package needs of pgx: a *pgxpool.Pool, a *pgx.Conn and a
// pgx.Tx all have it.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Begin(ctx context.Context) (pgx.Tx, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

var (
	_ DB = (*pgxpool.Pool)(nil)
	_ DB = (*pgx.Conn)(nil)
	_ DB = (pgx.Tx)(nil)
)

// PoolConfig says how to reach PostgreSQL.
type PoolConfig struct {
	// URL is a PostgreSQL connection string, as a URL or as key=value words. Its
	// pool_* and default_query_exec_mode settings are honoured: behind a pooler
	// in transaction mode, say default_query_exec_mode=exec.
	URL string

	// MaxConns is the most connections the pool opens; 0 takes what the URL says,
	// else pgx's default (4 or the number of CPUs, whichever is more).
	MaxConns int32

	// ApplicationName is shown in pg_stat_activity, unless the URL names one.
	ApplicationName string
}

// connectTimeout bounds the making of a connection, log-in included, where the
// URL has no connect_timeout: long enough for a busy server, short enough that a
// start without one ends while somebody is looking.
const connectTimeout = 10 * time.Second

// Open makes a pool and pings the server. No error of it contains the password.
//
// When a caller's context ends in the middle of a statement, pgx cancels the
// statement on the server and closes the connection, so a transaction that waits
// for a lock stops waiting. No server-side timeouts are set: poolers in transaction
// mode refuse such start-up parameters, and every call has its context's deadline.
func Open(ctx context.Context, cfg PoolConfig) (*pgxpool.Pool, error) {
	pc, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, ErrDatabaseURL
	}
	if cfg.MaxConns > 0 {
		pc.MaxConns = cfg.MaxConns
		pc.MinConns = min(pc.MinConns, pc.MaxConns)
	}
	if pc.ConnConfig.ConnectTimeout <= 0 {
		pc.ConnConfig.ConnectTimeout = connectTimeout
	}
	params := pc.ConnConfig.RuntimeParams
	if params["application_name"] == "" && cfg.ApplicationName != "" {
		params["application_name"] = cfg.ApplicationName
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("open database pool: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("reach database: %w", err)
	}
	return pool, nil
}
