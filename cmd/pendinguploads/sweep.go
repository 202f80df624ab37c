package main

import (
	"context"
	"fmt"

	"github.com/molecule-ai/pendinguploads/internal/server"
	"github.com/molecule-ai/pendinguploads/storage/sweeper"
)

type sweepCmd struct {
	server.Database `embed:""`
	server.Objects  `embed:""`
	server.Uploads  `embed:""`
	server.Cleanup  `embed:""`
	server.Log      `embed:""`
	Now             bool `help:"Take acked rows at once, whatever ACK_RETENTION says."`
	Orphans         bool `help:"Remove objects without a row and unfinished uploads too. Only with the MAX_UPLOAD_TIME and ORPHAN_GRACE of the running servers: with less, their uploads can lose their objects."`
}

// Help is what --help shows besides.
func (sweepCmd) Help() string {
	return `A running server does all of this by itself, every SWEEP_INTERVAL. Without --orphans only rows that are acked or
expired go, with their objects, and old feed entries. The objects of an upload have no row before it is done, and a
command cannot know how long the servers let theirs take: that is why leftovers of crashes are removed on request.

Examples:

    pendinguploads sweep
    pendinguploads sweep --now
    pendinguploads sweep --orphans`
}

func (c *sweepCmd) Run(ctx context.Context, out output) error {
	cfg := server.Config{Database: c.Database, Objects: c.Objects, Uploads: c.Uploads, Cleanup: c.Cleanup, Log: c.Log}
	if c.Now {
		cfg.AckRetention = -1
	}
	sweep := server.SweepOnce
	if c.Orphans {
		sweep = server.SweepOnceWithOrphans
	}
	r, err := sweep(ctx, cfg, cfg.Logger())
	if err != nil && r == (sweeper.Result{}) {
		return err // nothing was done
	}
	counts := fmt.Sprintf("acked=%d expired=%d feed_entries=%d", r.Acked, r.Expired, r.Feed)
	if c.Orphans {
		counts += fmt.Sprintf(" orphan_objects=%d unfinished_uploads=%d", r.Orphans.Objects, r.Orphans.Uploads)
	}
	_, _ = fmt.Fprintln(out, counts)
	return err
}
