package main

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/molecule-ai/pendinguploads/internal/server"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/migrations"
	"github.com/molecule-ai/pendinguploads/storage"
)

type workspaceCmd struct {
	Create workspaceCreateCmd `cmd:"" help:"Create a workspace and print its id and token as JSON. The token is shown once."`
	List   workspaceListCmd   `cmd:"" help:"List workspaces."`
	Token  workspaceTokenCmd  `cmd:"" help:"Mint a further token for a workspace and print it. It is shown once."`
	Delete workspaceDeleteCmd `cmd:"" help:"Remove a workspace: its tokens stop working at once; its uploads are swept when they expire."`
}

// workspaces connects to the database and checks its schema.
func withWorkspaces(ctx context.Context, d server.Database, f func(*metadata.Workspaces, *metadata.Tokens) error) error {
	db, err := d.OpenDatabase(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := migrations.Check(ctx, d.DatabaseURL, server.Sets()...); err != nil {
		return err
	}
	return f(metadata.NewWorkspaces(metadata.WorkspacesConfig{DB: db}), metadata.NewTokens(db))
}

type workspaceCreateCmd struct {
	server.Database `embed:""`
	Name            string `arg:"" help:"Name of the workspace."`
	ID              string `help:"UUID to use instead of a fresh one." placeholder:"UUID"`
	Mode            string `enum:"poll,push" default:"poll" help:"Delivery mode: poll or push."`
}

func (c *workspaceCreateCmd) Run(ctx context.Context, out output) error {
	var id storage.WorkspaceID
	if c.ID != "" {
		var err error
		if id, err = storage.ParseWorkspaceID(c.ID); err != nil {
			return fmt.Errorf("--id: %w", err)
		}
	}
	return withWorkspaces(ctx, c.Database, func(ws *metadata.Workspaces, _ *metadata.Tokens) error {
		w, token, err := ws.Create(ctx, metadata.NewWorkspace{ID: id, Name: c.Name, DeliveryMode: c.Mode}, metadata.TokenInstance)
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(struct {
			ID           string `json:"id"`
			Name         string `json:"name"`
			DeliveryMode string `json:"delivery_mode"`
			Token        string `json:"auth_token"`
		}{w.ID.String(), w.Name, w.DeliveryMode, token})
	})
}

type workspaceListCmd struct {
	server.Database `embed:""`
	All             bool `help:"Removed ones too."`
}

func (c *workspaceListCmd) Run(ctx context.Context, out output) error {
	return withWorkspaces(ctx, c.Database, func(ws *metadata.Workspaces, _ *metadata.Tokens) error {
		list, err := ws.List(ctx, c.All)
		if err != nil {
			return err
		}
		tw := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
		_, _ = fmt.Fprintln(tw, "ID\tMODE\tSTATUS\tNAME")
		for _, w := range list {
			_, _ = fmt.Fprintf(tw, "%s\t%s\t%s\t%q\n", w.ID, w.DeliveryMode, w.Status, w.Name)
		}
		return tw.Flush()
	})
}

type workspaceTokenCmd struct {
	server.Database `embed:""`
	ID              string `arg:"" help:"UUID of the workspace."`
}

func (c *workspaceTokenCmd) Run(ctx context.Context, out output) error {
	id, err := storage.ParseWorkspaceID(c.ID)
	if err != nil {
		return err
	}
	return withWorkspaces(ctx, c.Database, func(_ *metadata.Workspaces, tokens *metadata.Tokens) error {
		secret, _, err := tokens.Mint(ctx, id, metadata.TokenAPI)
		if err != nil {
			return fmt.Errorf("workspace %v: %w", id, err)
		}
		_, err = fmt.Fprintln(out, secret)
		return err
	})
}

type workspaceDeleteCmd struct {
	server.Database `embed:""`
	ID              string `arg:"" help:"UUID of the workspace."`
	Descendants     bool   `help:"Remove the workspaces below it as well; without it, children are an error."`
	Purge           bool   `help:"Delete rows and feed for good instead of marking them removed."`
}

func (c *workspaceDeleteCmd) Run(ctx context.Context, out output) error {
	id, err := storage.ParseWorkspaceID(c.ID)
	if err != nil {
		return err
	}
	return withWorkspaces(ctx, c.Database, func(ws *metadata.Workspaces, _ *metadata.Tokens) error {
		n, err := ws.Remove(ctx, id, metadata.RemoveOptions{Descendants: c.Descendants, Purge: c.Purge})
		if err != nil {
			return fmt.Errorf("workspace %v: %w", id, err)
		}
		_, err = fmt.Fprintf(out, "removed, with %d below it\n", n)
		return err
	})
}
