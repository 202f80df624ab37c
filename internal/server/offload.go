package server

import (
	"context"
	"errors"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/migrations"
	"github.com/molecule-ai/pendinguploads/storage/offload"
)

// errNoBucket is what a move without an object store ends in.
var errNoBucket = errors.New("S3_BUCKET is missing: there is no object store to move content to or from")

// OffloadConfig is what OpenOffload makes of the settings of a server: with Mode,
// Workers, Batch, rates and Progress filled in it is ready for offload.New.
type OffloadConfig struct {
	offload.Config
	db *pgxpool.Pool
}

// Close gives the connections back.
func (c OffloadConfig) Close() { c.db.Close() }

// OpenOffload connects to database and object store for a move. The migration set
// "uploads" is enough. An error names the setting.
func OpenOffload(ctx context.Context, cfg Config, log *slog.Logger) (OffloadConfig, error) {
	if cfg.S3Bucket == "" {
		return OffloadConfig{}, errNoBucket
	}
	db, err := cfg.OpenDatabase(ctx)
	if err != nil {
		return OffloadConfig{}, err
	}
	c := OffloadConfig{db: db}
	if err := c.open(ctx, cfg, log); err != nil {
		db.Close()
		return OffloadConfig{}, err
	}
	return c, nil
}

func (c *OffloadConfig) open(ctx context.Context, cfg Config, log *slog.Logger) error {
	if err := migrations.Check(ctx, cfg.DatabaseURL, migrations.Uploads); err != nil {
		return err
	}
	objects, pool, err := openPlaces(ctx, cfg.Objects, cfg.Uploads, log)
	if err != nil {
		return err
	}
	c.Config = offload.Config{
		DB: c.db, Uploads: metadata.NewUploads(metadata.UploadsConfig{DB: c.db, ReadAfterAck: cfg.ReadAfterAck}),
		Objects: objects, KeyPrefix: cfg.S3Prefix, Budget: pool, PartBytes: pool.PartBytes(),
		// As uploads are placed: above the cap there is nothing.
		InlineMaxBytes: min(cfg.InlineMaxBytes, cfg.MaxFileBytes), Logger: log,
	}
	return nil
}
