package offload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// releaseTime bounds the end of a claim.
const releaseTime = 5 * time.Second

// batch is rows that were claimed together. Workers share them, so that a batch of
// large files does not keep one worker while the others have nothing to do. There
// are never more batches than workers: each has a row that somebody works on.
type batch struct {
	rows    []metadata.Movable // not taken yet
	left    int                // not done yet
	copies  []copied           // that wait for their flip
	since   time.Time          // the first of them was made
	release func()
}

// flipAfter is how long copies wait for others to be flipped with. Where rows come
// slowly, under a limit say, a run is not to end with all of its work undone.
const flipAfter = time.Second

// take takes the next row of the pass, for which done must be called; the batch is
// nil at the end.
func (m *Mover) take(ctx context.Context) (*batch, metadata.Movable, error) {
	m.claiming.Lock()
	defer m.claiming.Unlock()
	if (m.batch == nil || len(m.batch.rows) == 0) && !m.end {
		if err := m.claim(ctx); err != nil {
			return nil, metadata.Movable{}, err
		}
	}
	if m.end {
		return nil, metadata.Movable{}, nil
	}
	b := m.batch
	u := b.rows[0]
	b.rows = b.rows[1:]
	return b, u, nil
}

// keep has a copy wait for others of its batch, and returns those that have waited
// for long enough.
func (m *Mover) keep(b *batch, c copied) (due []copied) {
	m.claiming.Lock()
	defer m.claiming.Unlock()
	if len(b.copies) == 0 {
		b.since = time.Now()
	}
	b.copies = append(b.copies, c)
	if time.Since(b.since) < flipAfter {
		return nil
	}
	due, b.copies = b.copies, nil
	return due
}

// done ends a batch with its last row: what waits is flipped, and its claims end.
func (m *Mover) done(ctx context.Context, b *batch) error {
	m.claiming.Lock()
	b.left--
	last := b.left == 0
	m.claiming.Unlock()
	if !last {
		return nil
	}
	defer b.release()
	return m.flip(ctx, b.copies...)
}

// finish ends a pass: what was set aside is flipped, for as long as patience lasts.
func (m *Mover) finish(ctx context.Context) error {
	return m.flipOpen(ctx, m.aside, func(*flipping) bool { return false })
}

// abandon ends a pass that failed, and the batch of which it did not take all rows.
// What was copied has one more try.
func (m *Mover) abandon(ctx context.Context) {
	open := m.aside
	if m.batch != nil && len(m.batch.rows) > 0 {
		defer m.batch.release()
		open = append(open, opened(m.batch.copies)...)
	}
	if err := m.flipOpen(ctx, open, func(*flipping) bool { return false }); err != nil {
		m.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "copies are left for the next run", slog.Any("error", err))
	}
}

// claim claims the next batch. The transaction that holds the claims writes
// nothing and has no snapshot between statements, so it keeps neither rows nor
// VACUUM waiting.
func (m *Mover) claim(ctx context.Context) error {
	var rows []metadata.Movable
	var release func()
	err := m.retry(ctx, func() (err error) {
		rows, release, err = m.tryClaim(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		m.end = true
		return nil
	}
	m.cursor = rows[len(rows)-1].UploadID
	m.batch = &batch{rows: rows, left: len(rows), release: release}
	return nil
}

func (m *Mover) tryClaim(ctx context.Context) ([]metadata.Movable, func(), error) {
	if m.cfg.Mode == Verify {
		batch, err := m.cfg.Uploads.NextMovable(ctx, m.scope, m.cursor, metadata.Take{Limit: m.cfg.Batch})
		return batch, func() {}, err
	}
	tx, err := m.cfg.DB.Begin(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("claim uploads: %w", err)
	}
	take := metadata.Take{Limit: m.cfg.Batch, Claim: true}
	if m.cfg.Mode == ToObjects {
		take.Content = chunk / int64(m.cfg.Batch)
	}
	batch, err := m.cfg.Uploads.Within(tx).NextMovable(ctx, m.scope, m.cursor, take)
	release := func() { end(ctx, tx) }
	if err != nil || len(batch) == 0 {
		release()
	}
	return batch, release, err
}

// end gives claims back. When their connection is lost they are gone as well, so
// there is nothing to tell.
func end(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
	defer cancel()
	_ = tx.Rollback(ctx)
}

// retry calls f until it succeeds, or fails for good, or has failed for as long as
// patience lasts. That counts from the first failure: a large row may take longer
// until something fails.
func (m *Mover) retry(ctx context.Context, f func() error) error {
	var failing time.Time // since then
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := f()
		if err == nil {
			return struct{}{}, nil
		}
		if failing.IsZero() {
			failing = time.Now()
		}
		if errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrCorrupt) || ctx.Err() != nil || time.Since(failing) > m.cfg.Patience {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(&backoff.ExponentialBackOff{
		InitialInterval: 100 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 10 * time.Second,
	}), backoff.WithMaxElapsedTime(0))
	return err
}
