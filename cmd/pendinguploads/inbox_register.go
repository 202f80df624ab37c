package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/internal/profile"
)

// mostFresh is how many ids of its own making a run tries to register.
const mostFresh = 3

// register returns a client that has the workspace's token: the one there is, or
// the one that a registration gave. What is new, id or token, is kept in the
// config file; the id before the service hears of it, so that a file that cannot
// be written does not cost the token, which is shown once.
func (c *inboxCmd) register(ctx context.Context, con console) (*client.Client, error) {
	c.mayBeNew = true
	t, path, err := c.target(con)
	if err != nil {
		return nil, err
	}
	join, err := readSecret(con, os.Getenv("PENDINGUPLOADS_JOIN_TOKEN"), first(c.JoinTokenFile, os.Getenv("PENDINGUPLOADS_JOIN_TOKEN_FILE")))
	if err != nil {
		return nil, usage(err)
	}
	c.Server = t.Server
	if t.Workspace == "" {
		t.Workspace, t.Fresh = uuid.NewString(), true
	}
	if t.Token != "" && !t.Fresh && !c.Register {
		return c.verified(ctx, con, t)
	}
	if t.Token == "" {
		if err := c.keep(&t, path, ""); err != nil {
			return nil, err
		}
	}
	for tries := 1; ; tries++ {
		cl, err := c.registered(ctx, con, &t, path, join)
		if !errors.Is(err, errHasToken) || !t.Fresh || tries == mostFresh {
			return cl, err
		}
		// The answer that had the token was lost, and the id with it.
		con.warn("workspace %s is registered and its token was lost on the way: taking another id", t.Workspace)
		id := uuid.NewString()
		if err := profile.Renew(path, t, id); err != nil {
			return nil, local(err)
		}
		t.Workspace = id
	}
}

// errHasToken is a workspace that cannot register without the token it holds.
var errHasToken = errors.New("it holds a token already, which the service does not show again")

// registered registers the workspace.
func (c *inboxCmd) registered(ctx context.Context, con console, t *profile.Target, path string, join profile.Secret) (*client.Client, error) {
	cl, err := c.client(con, *t)
	if err != nil {
		return nil, err
	}
	if t.Token == "" {
		cl.SetToken(join.Reveal())
	}
	reply, err := c.announce(ctx, con, cl)
	if errors.Is(err, client.ErrUnauthorized) && t.Token != "" && join != "" {
		// A workspace all of whose tokens were revoked registers like a new one.
		cl.SetToken(join.Reveal())
		reply, err = c.announce(ctx, con, cl)
	}
	switch {
	case errors.Is(err, client.ErrUnauthorized) && t.Token == "" && c.isKnown(ctx, cl):
		return nil, remote(fmt.Errorf("workspace %s: %w: give it with --token-file, or have an administrator make another with \"pendinguploads workspace token %s\": %w", t.Workspace, errHasToken, t.Workspace, err))
	case errors.Is(err, client.ErrUnauthorized) && t.Token == "":
		return nil, remote(fmt.Errorf("%w (a workspace that holds a token needs --token-file; a new one may need --join-token-file)", err))
	case err != nil:
		return nil, remote(err)
	case reply.AuthToken != "":
		if err := c.keep(t, path, profile.Secret(reply.AuthToken)); err != nil {
			return nil, err
		}
		con.warn("registered workspace %s, its token is kept as profile %q in %s", t.Workspace, t.Profile, path)
		cl.SetToken(reply.AuthToken)
	case t.Token == "":
		return nil, local(fmt.Errorf("workspace %s: %w (or it was removed): give it with --token-file, or have an administrator make another with \"pendinguploads workspace token %s\"", t.Workspace, errHasToken, t.Workspace))
	}
	return cl, nil
}

// isKnown reports whether the service knows the workspace: then it refuses a
// registration for the workspace's sake, and else because it is closed.
func (c *inboxCmd) isKnown(ctx context.Context, cl *client.Client) bool {
	_, err := cl.Describe(ctx)
	return err == nil
}

// verified is a client for a workspace that has a token. The workspace is left as
// it is: another program may run it, with an agent card and a mode of its own.
func (c *inboxCmd) verified(ctx context.Context, con console, t profile.Target) (*client.Client, error) {
	cl, err := c.client(con, t)
	if err != nil {
		return nil, err
	}
	err = c.untilAnswered(ctx, con, func() error {
		_, err := cl.Heartbeat(ctx, wire.Heartbeat{})
		return err
	})
	switch {
	case errors.Is(err, client.ErrUnauthorized):
		return nil, remote(fmt.Errorf("the service does not accept the token of workspace %s: %w", t.Workspace, err))
	case err != nil && (ctx.Err() != nil || client.Temporary(err)):
		return nil, remote(err)
	}
	// What this says is advice, so what it fails with is not.
	switch w, err := cl.Describe(ctx); {
	case errors.Is(err, client.ErrNotFound):
		con.warn("warning: the service knows no workspace %s: --register registers it", t.Workspace)
	case err == nil && w.DeliveryMode != "" && w.DeliveryMode != "poll":
		con.warn("warning: workspace %s is in %s mode, nothing is kept for it to receive: --register puts it into poll mode", t.Workspace, w.DeliveryMode)
	}
	return cl, nil
}

// untilAnswered repeats a call while the service cannot be reached: for as long as
// the client has patience if the inbox is to end soon, else without end.
func (c *inboxCmd) untilAnswered(ctx context.Context, con console, call func() error) error {
	limit := time.Duration(0) // none
	if c.Once {
		limit = c.Patience
	}
	said := trouble(con)
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := call()
		if err != nil && (ctx.Err() != nil || c.Once && c.Patience <= 0 || !client.Temporary(err)) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	},
		backoff.WithBackOff(&backoff.ExponentialBackOff{InitialInterval: 250 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 10 * time.Second}),
		backoff.WithMaxElapsedTime(limit), backoff.WithNotify(func(err error, _ time.Duration) { said(err) }))
	if err == nil {
		said(nil)
	}
	return err
}

// announce registers. Unless it is to end soon, it goes on trying for as long as
// the service cannot be reached.
func (c *inboxCmd) announce(ctx context.Context, con console, cl *client.Client) (wire.RegisterReply, error) {
	said := trouble(con)
	for {
		reply, err := cl.Register(ctx, client.Registration{Name: c.Name})
		if err == nil || c.Once || c.Patience < 0 || ctx.Err() != nil || !client.Temporary(err) {
			return reply, err
		}
		said(err)
	}
}

// keep stores the workspace, and its token if there is one, in the config file.
func (c *inboxCmd) keep(t *profile.Target, path string, token profile.Secret) error {
	if path == "" {
		return usage(errors.New("there is no folder for a config file: give --config, or --workspace and --token-file"))
	}
	kept := *t
	kept.Token = token
	name, err := profile.Keep(path, kept, first(c.Profile, os.Getenv("PENDINGUPLOADS_PROFILE")))
	if err != nil {
		return local(err)
	}
	t.Profile = name
	return nil
}
