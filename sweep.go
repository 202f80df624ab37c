package pendinguploads

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/sweeper"
)

// sweepBatch is how many rows Sweep takes at a time.
const sweepBatch = 500

// Sweep implements Sweeper: rows, with their objects, until nothing more is due.
// What was removed before an error is in the result. Objects without rows are left
// to StartSweeper and SweepOrphans.
func (s *Store) Sweep(ctx context.Context, ackRetention time.Duration) (SweepResult, error) {
	var total SweepResult
	for {
		r, err := s.staging.Sweep(ctx, ackRetention, sweepBatch)
		total.Acked += r.Acked
		total.Expired += r.Expired
		if err != nil {
			return total, fmt.Errorf("pendinguploads: sweep: %w", err)
		}
		if r.Total() < sweepBatch {
			return total, nil
		}
	}
}

// SweepOrphans removes objects without rows and unfinished uploads, both older
// than OrphanGrace, and returns how many: what rollbacks of PutBatchTx and crashes
// leave behind. It lists everything below the key prefix; StartSweeper does it
// every half hour.
func (s *Store) SweepOrphans(ctx context.Context) (int, error) {
	r, err := s.staging.SweepOrphans(ctx, OrphanGrace)
	if err != nil {
		return r.Total(), fmt.Errorf("pendinguploads: sweep orphans: %w", err)
	}
	return r.Total(), nil
}

// StartSweeper sweeps at once and then every SweepInterval, and returns when ctx
// ends; start it with go. A run that fails is logged and counted, and the next one
// comes all the same. ackRetention 0 is DefaultAckRetention. Any number of
// processes may run it. A Storage that is no Sweeper has nothing to be swept, which
// is logged.
func StartSweeper(ctx context.Context, s Storage, ackRetention time.Duration) {
	cfg := sweeper.Config{Retention: ackRetention, Logger: slog.Default()}
	switch s := s.(type) {
	case *Store:
		cfg.Storage, cfg.Logger, cfg.Metrics, cfg.Now = s.staging, s.log, s.metrics, s.now
	case Sweeper:
		cfg.Storage = foreign{s}
	default:
		cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "nothing to sweep: the storage has no method Sweep", slog.String("type", fmt.Sprintf("%T", s)))
		return
	}
	run, err := sweeper.New(cfg)
	if err != nil {
		cfg.Logger.LogAttrs(ctx, slog.LevelError, "sweeper not started", slog.Any("error", err))
		return
	}
	run.Run(ctx)
}

// foreign is a Sweeper that is not ours: it sweeps everything in one go.
type foreign struct{ s Sweeper }

func (f foreign) Sweep(ctx context.Context, retention time.Duration, _ int) (storage.SweepResult, error) {
	return f.s.Sweep(ctx, retention)
}

// SweepOrphans is that of what wraps a Store, which has its own grace period.
func (f foreign) SweepOrphans(ctx context.Context, _ time.Duration) (storage.OrphanResult, error) {
	s, ok := f.s.(interface {
		SweepOrphans(ctx context.Context) (int, error)
	})
	if !ok {
		return storage.OrphanResult{}, nil
	}
	n, err := s.SweepOrphans(ctx)
	return storage.OrphanResult{Objects: n}, err
}
