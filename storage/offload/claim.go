package offload

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// releaseTime bounds the end of a claim.
const releaseTime = 5 * time.Second

// claim takes the next batch of the pass; nil at its end. The transaction that
// holds the claims writes nothing and has no snapshot between statements, so it
// keeps neither rows nor VACUUM waiting.
func (m *Mover) claim(ctx context.Context) (batch []metadata.Movable, release func(), err error) {
	m.claiming.Lock()
	defer m.claiming.Unlock()
	if m.end {
		return nil, nil, nil
	}
	err = m.retry(ctx, func() error {
		batch, release, err = m.tryClaim(ctx)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if len(batch) == 0 {
		m.end = true
		return nil, nil, nil
	}
	m.cursor = batch[len(batch)-1].UploadID
	return batch, release, nil
}

func (m *Mover) tryClaim(ctx context.Context) ([]metadata.Movable, func(), error) {
	if m.cfg.Mode == Verify {
		batch, err := m.cfg.Uploads.NextMovable(ctx, m.scope, m.cursor, m.cfg.Batch, false)
		return batch, func() {}, err
	}
	tx, err := m.cfg.DB.Begin(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("claim uploads: %w", err)
	}
	batch, err := m.cfg.Uploads.Within(tx).NextMovable(ctx, m.scope, m.cursor, m.cfg.Batch, true)
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
// patience lasts.
func (m *Mover) retry(ctx context.Context, f func() error) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := f()
		if errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrCorrupt) || ctx.Err() != nil {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(&backoff.ExponentialBackOff{
		InitialInterval: 100 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 10 * time.Second,
	}), backoff.WithMaxElapsedTime(m.cfg.Patience))
	return err
}
