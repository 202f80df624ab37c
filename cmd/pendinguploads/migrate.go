package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/molecule-ai/pendinguploads/internal/server"
	"github.com/molecule-ai/pendinguploads/migrations"
)

type migrateCmd struct {
	Up     migrateUpCmd     `cmd:"" help:"Apply all pending migrations."`
	Down   migrateDownCmd   `cmd:"" help:"Roll back the newest migration of each set."`
	Status migrateStatusCmd `cmd:"" help:"Show which migrations are applied."`
}

// migrateTarget is which database and which sets of tables.
type migrateTarget struct {
	server.Database `embed:""`
	Set             string `enum:"all,uploads,service" default:"all" help:"uploads (the pending_uploads table alone, for platforms that embed the storage package), service (workspaces, tokens, feed) or all."`
}

func (t migrateTarget) sets() []migrations.Set {
	if t.Set == "all" {
		return server.Sets()
	}
	return []migrations.Set{migrations.Set(t.Set)}
}

type migrateUpCmd struct{ migrateTarget }

func (c *migrateUpCmd) Run(ctx context.Context, out output) error {
	if err := c.Validate(); err != nil {
		return err
	}
	applied, err := migrations.Up(ctx, c.DatabaseURL, c.sets()...)
	return report(out, "applied", applied, err)
}

type migrateDownCmd struct{ migrateTarget }

func (c *migrateDownCmd) Run(ctx context.Context, out output) error {
	if err := c.Validate(); err != nil {
		return err
	}
	rolled, err := migrations.Down(ctx, c.DatabaseURL, c.sets()...)
	return report(out, "rolled back", rolled, err)
}

func report(out output, what string, applied []migrations.Applied, err error) error {
	for _, a := range applied {
		_, _ = fmt.Fprintf(out, "%s %s %s in %v\n", what, a.Set, a.Name, a.Duration)
	}
	if err == nil && len(applied) == 0 {
		_, _ = fmt.Fprintln(out, "nothing to do")
	}
	return err
}

type migrateStatusCmd struct{ migrateTarget }

func (c *migrateStatusCmd) Run(ctx context.Context, out output) error {
	if err := c.Validate(); err != nil {
		return err
	}
	status, err := migrations.GetStatus(ctx, c.DatabaseURL, c.sets()...)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "SET\tMIGRATION\tAPPLIED")
	for _, s := range status {
		when := "pending"
		if s.Applied {
			when = s.AppliedAt.UTC().Format("2006-01-02 15:04:05Z")
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", s.Set, s.Name, when)
	}
	return w.Flush()
}
