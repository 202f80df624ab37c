package server

import (
	"context"
	"log/slog"

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

// SweepOnce does one run of the sweeper on the configured database and bucket.
// A negative AckRetention takes acked rows at once.
func SweepOnce(ctx context.Context, cfg Config, log *slog.Logger) (sweeper.Result, error) {
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
	s, err := cfg.sweeper(store, activity, nil, log)
	if err != nil {
		return sweeper.Result{}, err
	}
	return s.Once(ctx)
}
