package server

import (
	"context"
	"log/slog"
	"time"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/migrations"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/sweeper"
)

type sweeperStore = storage.Sweeper

// pruner prunes the feed with the configured ages.
type pruner struct {
	activity  *metadata.Activity
	retention metadata.Retention
}

func (p pruner) Prune(ctx context.Context, limit int) (int64, error) {
	return p.activity.Prune(ctx, p.retention, limit)
}

// noOrphans is a storage without its look for orphans.
type noOrphans struct{ storage.Sweeper }

func (noOrphans) SweepOrphans(context.Context, time.Duration) (storage.OrphanResult, error) {
	return storage.OrphanResult{}, nil
}

// SweepOnce does one run of the sweeper on the configured database and bucket:
// rows that are due and old feed entries, not orphans. A negative AckRetention
// takes acked rows at once.
func SweepOnce(ctx context.Context, cfg Config, log *slog.Logger) (sweeper.Result, error) {
	return sweepOnce(ctx, cfg, false, log)
}

// SweepOnceWithOrphans is SweepOnce with a look for orphans. What is an orphan is
// told by MaxUploadTime and OrphanGrace: with less than those of a running server
// it can take the objects of that server's uploads.
func SweepOnceWithOrphans(ctx context.Context, cfg Config, log *slog.Logger) (sweeper.Result, error) {
	return sweepOnce(ctx, cfg, true, log)
}

func sweepOnce(ctx context.Context, cfg Config, orphans bool, log *slog.Logger) (sweeper.Result, error) {
	if err := cfg.Cleanup.validate(cfg.MaxUploadTime); err != nil {
		return sweeper.Result{}, err
	}
	db, err := cfg.OpenDatabase(ctx)
	if err != nil {
		return sweeper.Result{}, err
	}
	defer db.Close()
	if err := migrations.Check(ctx, cfg.DatabaseURL, sets...); err != nil {
		return sweeper.Result{}, err
	}
	activity := metadata.NewActivity(metadata.ActivityConfig{DB: db})
	store, _, _, err := OpenStaging(ctx, cfg.Objects, cfg.Uploads, db, nil, log)
	if err != nil {
		return sweeper.Result{}, err
	}
	var swept sweeperStore = store
	if !orphans {
		swept = noOrphans{store}
	}
	s, err := cfg.sweeper(swept, activity, nil, log)
	if err != nil {
		return sweeper.Result{}, err
	}
	return s.Once(ctx)
}
