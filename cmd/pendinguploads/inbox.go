package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/client/inbox"
)

type inboxCmd struct {
	connection `embed:""`

	Dir           string        `required:"" help:"Folder that files appear in; it is made, for you alone, when it is missing." placeholder:"DIR"`
	Once          bool          `help:"Fetch what there is and exit, for cron."`
	Exec          string        `help:"Command to run for each message, by the shell, with the paths of its files as arguments and the message as JSON on standard input. One that fails is run again." placeholder:"COMMAND"`
	Attempts      int           `default:"10" help:"How often the command may fail for a message before it is skipped; negative: for ever."`
	JSON          bool          `name:"json" help:"Print each file and message as one JSON object a line."`
	Name          string        `help:"What the workspace calls itself where it registers. Default: its id." placeholder:"NAME"`
	Register      bool          `help:"Register a workspace that has a token too: it is put into poll mode, and its agent card is replaced."`
	JoinTokenFile string        `help:"File with the join or administrator's token, where a new workspace needs one to register ($$PENDINGUPLOADS_JOIN_TOKEN_FILE; $$PENDINGUPLOADS_JOIN_TOKEN is the token itself)." placeholder:"PATH"`
	Journal       string        `help:"File that remembers what was done. Default: DIR.journal." placeholder:"PATH"`
	URIStyle      string        `name:"uri-style" default:"workspace" enum:"workspace,file" help:"How messages name the files: workspace:/path or file:///path."`
	Fetch         string        `default:"proxy" enum:"proxy,url" env:"PENDINGUPLOADS_FETCH" help:"Where files come from: proxy (the service), or url (the object store, by URLs that the service gives; through the service where that does not work from here)."`
	Fetchers      int           `default:"4" help:"Files fetched at a time."`
	MinFree       int64         `default:"67108864" help:"Bytes that stay free on the disk; negative: no check."`
	MaxFileBytes  int64         `default:"0" help:"Largest file to take, in bytes; 0: any."`
	Transport     string        `default:"auto" enum:"auto,longpoll,poll" help:"How to follow the feed: auto (a stream, or what the service has instead), longpoll or poll."`
	Heartbeat     time.Duration `default:"30s" help:"Time between two heartbeats; negative: none."`
}

// Help is what --help shows besides.
func (inboxCmd) Help() string {
	return `A workspace without a token registers itself. Without --workspace or a profile that has one it gets a fresh id; id and
token are kept in the config file. One that has a token is left as it is, unless --register is given. A file is in the folder complete or not at all, and is acknowledged once it is there for good;
killed at any moment, it goes on where it was.

The command of --exec runs in a process group of its own. It finds the message's ids in the environment, as
PENDINGUPLOADS_ACTIVITY_ID, _METHOD, _SOURCE, _DIR, and _SERVER and _WORKSPACE, with which "pendinguploads upload" in it
finds the same profile.

Examples:

    pendinguploads inbox --server https://files.example.org --dir ~/Inbox --join-token-file join.token
    pendinguploads inbox --dir ~/Inbox --exec 'printf "%s\n"'
    pendinguploads inbox --dir ~/Inbox --json | jq -r 'select(.event == "file") | .path'
    */5 * * * * pendinguploads inbox --dir ~/Inbox --once

Exit codes: 0 stopped by a signal, or drained; 1 failure, 2 usage, 3 token not accepted, 5 messages were skipped,
75 service unreachable or busy, or files left for the next run (with --once).`
}

func (c *inboxCmd) Run(ctx context.Context, con console) error {
	switch {
	case c.Exec != "" && strings.TrimSpace(c.Exec) == "":
		return usage(errors.New("--exec is blank"))
	case c.Attempts == 0:
		return usage(errors.New("--attempts is 0, want 1 or more, or less than 0: for ever"))
	}
	c.fetchBy = client.FetchWay(c.Fetch)
	cl, err := c.register(ctx, con)
	if err != nil {
		if ctx.Err() != nil && !c.Once {
			return nil
		}
		return err
	}
	defer cl.Close()
	r := newReceiver(c, con, cl)
	in, err := inbox.New(r.config())
	if err != nil {
		return usage(err)
	}
	err = in.Run(ctx)
	r.close()
	var feed *inbox.FeedError
	switch {
	case errors.Is(err, client.ErrUnauthorized):
		return remote(fmt.Errorf("the service does not accept the token of workspace %v any more: %w", cl.Workspace(), err))
	case errors.Is(err, inbox.ErrUnfinished):
		return &exitError{exitTemporary, err}
	case errors.As(err, &feed):
		return remote(err)
	case err != nil:
		return local(err)
	case r.skipped > 0:
		return &exitError{exitPartly, fmt.Errorf("%d messages skipped: the command failed for them", r.skipped)}
	}
	return nil
}

// receiver shows what an inbox does and runs the command.
type receiver struct {
	*inboxCmd
	con    console
	client *client.Client
	report *receiverReport

	failing  string // id of the message that the command failed for last
	failures int    // in a row
	skipped  int    // messages
}

func newReceiver(c *inboxCmd, con console, cl *client.Client) *receiver {
	return &receiver{inboxCmd: c, con: con, client: cl, report: newReceiverReport(con, c.JSON)}
}

func (r *receiver) close() { r.report.close() }

func (r *receiver) config() inbox.Config {
	cfg := inbox.Config{
		Client: r.client, Dir: r.Dir, Journal: r.Journal,
		Fetchers: r.Fetchers, MinFree: r.MinFree, MaxFileBytes: r.MaxFileBytes, URIStyle: inbox.StyleWorkspace,
		OnFile: r.report.file, OnProgress: r.report.progress, OnTrouble: r.report.trouble,
		Handler: r.handle, HandlerAttempts: r.Attempts,
		Heartbeat: r.Heartbeat,
		Follow:    client.FollowConfig{Once: r.Once, Transport: transport(r.Transport), PeerInfo: true},
	}
	if r.MinFree == 0 {
		cfg.MinFree = -1
	}
	if r.URIStyle == "file" {
		cfg.URIStyle = inbox.StyleFile
	}
	if r.Verbose {
		cfg.Logger = slog.New(slog.NewTextHandler(r.report.aside(), nil))
	}
	return cfg
}

// handle runs the command, then says that the message came.
func (r *receiver) handle(ctx context.Context, m inbox.Message) error {
	message := newMessageEvent(m)
	if r.Exec != "" {
		err := r.exec(ctx, m, message)
		if err != nil && ctx.Err() == nil {
			r.failed(m.Activity.ID)
		}
		if err != nil {
			return err
		}
	}
	r.report.message(message)
	return nil
}

func (r *receiver) failed(id string) {
	if r.failing != id {
		r.failing, r.failures = id, 0
	}
	if r.failures++; r.failures == r.Attempts {
		r.skipped++
	}
}

func (r *receiver) exec(ctx context.Context, m inbox.Message, event messageEvent) error {
	h := handlerCommand{
		command: r.Exec, output: r.report.aside(),
		env: append(os.Environ(),
			"PENDINGUPLOADS_ACTIVITY_ID="+m.Activity.ID,
			"PENDINGUPLOADS_METHOD="+deref(m.Activity.Method),
			"PENDINGUPLOADS_SOURCE="+deref(m.Activity.SourceID),
			"PENDINGUPLOADS_DIR="+r.Dir,
			"PENDINGUPLOADS_SERVER="+r.Server,
			"PENDINGUPLOADS_WORKSPACE="+r.client.Workspace().String(),
		),
	}
	if r.Config != "" {
		h.env = append(h.env, "PENDINGUPLOADS_CONFIG="+r.Config)
	}
	for _, f := range m.Files {
		if f.Path != "" {
			h.paths = append(h.paths, f.Path)
		}
	}
	return h.run(ctx, event)
}
