package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/internal/profile"
	"github.com/molecule-ai/pendinguploads/storage"
)

// connection says which service, and as whom. Its variables are read by profiles
// and not by the parser, because a token goes only to the server it came with.
type connection struct {
	Server    string        `help:"Address of the service ($$PENDINGUPLOADS_SERVER)." placeholder:"URL" group:"Connection"`
	Workspace string        `help:"The workspace's UUID ($$PENDINGUPLOADS_WORKSPACE)." placeholder:"ID" group:"Connection"`
	TokenFile string        `help:"File with the token, the workspace's or the administrator's ($$PENDINGUPLOADS_TOKEN_FILE; $$PENDINGUPLOADS_TOKEN is the token itself)." placeholder:"PATH" group:"Connection"`
	Token     string        `help:"The token itself. Others on this machine can see it: prefer --token-file, the environment or a profile." placeholder:"TOKEN" group:"Connection"`
	Profile   string        `help:"Profile of the config file ($$PENDINGUPLOADS_PROFILE)." placeholder:"NAME" group:"Connection"`
	Config    string        `help:"Config file ($$PENDINGUPLOADS_CONFIG); default pendinguploads/config.json in the user's config folder." placeholder:"PATH" group:"Connection"`
	Patience  time.Duration `help:"How long a call is repeated while the service cannot be reached or is busy; negative: not at all." default:"2m" group:"Connection"`
	Verbose   bool          `short:"v" help:"Say what is tried again, and why." group:"Connection"`

	mayBeNew bool            // the profile asked for need not be there yet
	fetchBy  client.FetchWay // where content comes from
}

// target finds out whom to talk to, and where the config file lies ("" if there
// is no place for one).
func (c *connection) target(con console) (profile.Target, string, error) {
	s := profile.Sources{Name: first(c.Profile, os.Getenv("PENDINGUPLOADS_PROFILE"))}
	s.Flags = profile.Profile{Server: c.Server, Workspace: c.Workspace}
	s.Env = profile.Profile{Server: os.Getenv("PENDINGUPLOADS_SERVER"), Workspace: os.Getenv("PENDINGUPLOADS_WORKSPACE")}
	s.Runtime = profile.Profile{Server: os.Getenv("PLATFORM_URL"), Workspace: os.Getenv("WORKSPACE_ID")}
	if c.Token != "" {
		con.warn("warning: others on this machine can see the token of --token")
	}
	for _, t := range []struct {
		to          *profile.Secret
		token, file string
	}{
		{&s.Flags.Token, c.Token, c.TokenFile},
		{&s.Env.Token, os.Getenv("PENDINGUPLOADS_TOKEN"), os.Getenv("PENDINGUPLOADS_TOKEN_FILE")},
		{&s.Runtime.Token, os.Getenv("MOLECULE_WORKSPACE_TOKEN"), os.Getenv("MOLECULE_WORKSPACE_TOKEN_FILE")},
	} {
		var err error
		if *t.to, err = readSecret(con, t.token, t.file); err != nil {
			return profile.Target{}, "", usage(err)
		}
	}
	path, err := c.load(con, &s)
	if err != nil {
		return profile.Target{}, "", usage(err)
	}
	if _, known := s.Config.Profiles[s.Name]; !known && c.mayBeNew && s.Name != "" {
		s.Name, s.Config = "", profile.Config{}
	}
	target, err := s.Resolve()
	if err != nil {
		return profile.Target{}, path, usage(err)
	}
	if target.Server == "" {
		return target, path, usage(errors.New("no server: give --server, PENDINGUPLOADS_SERVER or a profile in " + first(path, "a config file")))
	}
	return target, path, nil
}

// load reads the config file. One that others can read is not used.
func (c *connection) load(con console, s *profile.Sources) (path string, err error) {
	path = first(c.Config, os.Getenv("PENDINGUPLOADS_CONFIG"))
	asked := path != "" || s.Name != ""
	if path == "" {
		if path, err = profile.DefaultPath(); err != nil {
			if asked {
				return "", err
			}
			return "", nil
		}
	}
	s.Config, err = profile.Load(path)
	var exposed *profile.ExposedError
	if errors.As(err, &exposed) && !asked {
		con.warn("warning: config file not used: %v", err)
		return path, nil
	}
	return path, err
}

// client makes a client for the target.
func (c *connection) client(con console, t profile.Target) (*client.Client, error) {
	if t.Workspace == "" {
		return nil, usage(errors.New("no workspace: give --workspace, PENDINGUPLOADS_WORKSPACE or a profile with one"))
	}
	id, err := storage.ParseWorkspaceID(t.Workspace)
	if err != nil {
		return nil, usage(fmt.Errorf("workspace %q: %w", t.Workspace, err))
	}
	log := slog.New(slog.DiscardHandler)
	if c.Verbose {
		log = slog.New(slog.NewTextHandler(con.err, nil))
	}
	cl, err := client.New(client.Config{
		BaseURL: t.Server, Workspace: id, Token: t.Token.Reveal(), Patience: c.Patience, FetchBy: c.fetchBy,
		UserAgent: "pendinguploads/" + version, Logger: log,
	})
	if err != nil {
		return nil, usage(err)
	}
	return cl, nil
}

// connect is target and client for commands that need a token.
func (c *connection) connect(con console) (*client.Client, error) {
	t, _, err := c.target(con)
	if err != nil {
		return nil, err
	}
	return c.withToken(con, t)
}

// connectAsUser is connect for what a user of the workspace does rather than the
// workspace itself: the administrator's token comes first if the profile has it.
func (c *connection) connectAsUser(con console) (*client.Client, profile.Target, error) {
	t, _, err := c.target(con)
	if err != nil {
		return nil, t, err
	}
	if t.AdminToken != "" {
		t.Token = t.AdminToken
	}
	cl, err := c.withToken(con, t)
	return cl, t, err
}

func (c *connection) withToken(con console, t profile.Target) (*client.Client, error) {
	cl, err := c.client(con, t)
	if err == nil && t.Token == "" {
		return nil, usage(fmt.Errorf("no token for workspace %s on %s: give --token-file, PENDINGUPLOADS_TOKEN or a profile with one", t.Workspace, t.Server))
	}
	return cl, err
}

// maxSecret is more than any token has.
const maxSecret = 4 << 10

// readSecret is the token given, or the content of its file.
func readSecret(con console, token, file string) (profile.Secret, error) {
	if token != "" || file == "" {
		return profile.Secret(token), nil
	}
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && exposed(info.Mode()) {
		con.warn("warning: others can read %s (mode %04o)", file, info.Mode().Perm())
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	text := strings.TrimSpace(string(data))
	if text == "" || len(data) > maxSecret || strings.ContainsAny(text, " \t\r\n") {
		return "", fmt.Errorf("%s does not hold a token", file)
	}
	return profile.Secret(text), nil
}

// exposed reports whether other users can read a file of this mode.
func exposed(mode fs.FileMode) bool { return mode.Perm()&0o077 != 0 && runtime.GOOS != "windows" }

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
