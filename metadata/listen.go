package metadata

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/molecule-ai/pendinguploads/storage"
)

// Channel is what writers notify, with the workspace's id as payload.
const Channel = "pendinguploads_feed"

const (
	// listenProbe is how often a silent connection is asked whether it is there
	// still: a firewall may have forgotten it without telling.
	listenProbe = 30 * time.Second

	// listenPatience bounds that question, and the making and closing of a
	// connection.
	listenPatience = 10 * time.Second

	// listenSettled is how long a connection must live to count as a good one,
	// after which trouble is news again.
	listenSettled = time.Minute
)

// DialLike returns a function that makes single connections of the same kind as
// the pool's, outside of it.
func DialLike(pool *pgxpool.Pool) func(ctx context.Context) (*pgx.Conn, error) {
	cfg := pool.Config().ConnConfig
	return func(ctx context.Context) (*pgx.Conn, error) { return pgx.ConnectConfig(ctx, cfg.Copy()) }
}

// listen keeps a listening connection until ctx ends. Trouble is logged once
// until it is over; the rounds do meanwhile.
func (fw *FeedWatch) listen(ctx context.Context) {
	policy := &backoff.ExponentialBackOff{
		InitialInterval: 250 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 30 * time.Second,
	}
	warned := false
	for {
		began := time.Now()
		err := fw.listenOnce(ctx)
		fw.listening.Store(false)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) >= listenSettled {
			policy.Reset()
			warned = false
		}
		if !warned {
			fw.log.LogAttrs(ctx, slog.LevelWarn, "no notifications from the database; feeds are polled until there are",
				slog.Duration("every", fw.cfg.Poll), slog.Any("error", err))
			warned = true
		}
		wait := time.NewTimer(policy.NextBackOff())
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
	}
}

// listenOnce passes on notifications through one connection until it fails.
func (fw *FeedWatch) listenOnce(ctx context.Context) error {
	dial, cancel := context.WithTimeout(ctx, listenPatience)
	defer cancel()
	conn, err := fw.cfg.Listen(dial)
	if err != nil {
		return fmt.Errorf("connect to listen: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), listenPatience)
		defer cancel()
		_ = conn.Close(ctx) // it is of no further use, whatever it says
	}()
	if _, err := conn.Exec(dial, "LISTEN "+Channel); err != nil {
		return fmt.Errorf("listen on %s: %w", Channel, err)
	}
	fw.listening.Store(true)
	fw.log.LogAttrs(ctx, slog.LevelInfo, "notifications from the database come")
	fw.Check() // for what was notified before
	for {
		n, err := nextNotification(ctx, conn)
		switch {
		case err != nil:
			return err
		case n == nil:
			continue
		}
		if ws, err := storage.ParseWorkspaceID(n.Payload); err == nil {
			fw.wake(ws)
		}
	}
}

// nextNotification returns nil after a silence in which the connection turned out
// to be alive.
func nextNotification(ctx context.Context, conn *pgx.Conn) (*pgconn.Notification, error) {
	wait, cancel := context.WithTimeout(ctx, listenProbe)
	defer cancel()
	n, err := conn.WaitForNotification(wait)
	if err == nil {
		return n, nil
	}
	if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) || conn.IsClosed() {
		return nil, fmt.Errorf("wait for notifications: %w", err)
	}
	probe, cancel := context.WithTimeout(ctx, listenPatience)
	defer cancel()
	if err := conn.Ping(probe); err != nil {
		return nil, fmt.Errorf("probe the listening connection: %w", err)
	}
	return nil, nil
}
