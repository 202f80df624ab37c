package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/internal/profile"
)

// register announces the workspace and returns a client that has its token. What
// is new, id or token, is kept in the config file; the id before the service
// hears of it, so that a file that cannot be written does not cost the token,
// which is shown once.
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
	if t.Workspace == "" {
		t.Workspace = uuid.NewString()
	}
	c.Server = t.Server
	cl, err := c.client(con, t)
	if err != nil {
		return nil, err
	}
	if t.Token == "" {
		if err := c.keep(&t, path, ""); err != nil {
			return nil, err
		}
		cl.SetToken(join.Reveal())
	}
	reply, err := c.announce(ctx, con, cl)
	if errors.Is(err, client.ErrUnauthorized) && t.Token != "" && join != "" {
		// A workspace all of whose tokens were revoked registers like a new one.
		cl.SetToken(join.Reveal())
		reply, err = c.announce(ctx, con, cl)
	}
	switch {
	case errors.Is(err, client.ErrUnauthorized) && t.Token == "":
		err = fmt.Errorf("%w (a workspace that holds a token needs --token-file; a new one may need --join-token-file)", err)
		return nil, remote(err)
	case err != nil:
		return nil, remote(err)
	case reply.AuthToken != "":
		if err := c.keep(&t, path, profile.Secret(reply.AuthToken)); err != nil {
			return nil, err
		}
		con.warn("registered workspace %s, its token is kept as profile %q in %s", t.Workspace, t.Profile, path)
		cl.SetToken(reply.AuthToken)
	case t.Token == "":
		return nil, remote(fmt.Errorf("workspace %s: the service accepted the registration and gave no token: the workspace may be removed", t.Workspace))
	}
	return cl, nil
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
