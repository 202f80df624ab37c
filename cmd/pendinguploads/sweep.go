package main

import (
	"context"
	"fmt"

	"github.com/molecule-ai/pendinguploads/internal/server"
)

type sweepCmd struct {
	server.Database `embed:""`
	server.Objects  `embed:""`
	server.Uploads  `embed:""`
	server.Cleanup  `embed:""`
	server.Log      `embed:""`
	Now             bool `help:"Take acked rows at once, whatever ACK_RETENTION says."`
}

func (c *sweepCmd) Run(ctx context.Context, out output) error {
	cfg := server.Config{Database: c.Database, Objects: c.Objects, Uploads: c.Uploads, Cleanup: c.Cleanup, Log: c.Log}
	if c.Now {
		cfg.AckRetention = -1
	}
	r, err := server.SweepOnce(ctx, cfg, cfg.Logger())
	_, _ = fmt.Fprintf(out, "acked=%d expired=%d orphan_objects=%d unfinished_uploads=%d feed_entries=%d\n",
		r.Acked, r.Expired, r.Orphans.Objects, r.Orphans.Uploads, r.Feed)
	return err
}
