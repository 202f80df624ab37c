package s3blob

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
)

// chain is the SDK's default chain of credentials, made anew when one of the
// shared files changes: the SDK reads those once. Everything else that can change
// (a web identity's token, an instance's role) the chain renews by itself.
//
// The files are looked at before each request, which costs microseconds. What
// they say is taken once it yields credentials; until then, and while a file is
// away or empty because it is being written, what was read last stays.
type chain struct {
	load  func(context.Context) (aws.Config, error)
	files []string
	log   *slog.Logger

	mu      sync.Mutex
	current aws.CredentialsProvider
	seen    []os.FileInfo // of the files that current was read from; nil where absent
	loading bool          // somebody reads changed files
}

// loadConfig returns the configuration that load yields, with a chain for its
// credentials.
func loadConfig(ctx context.Context, log *slog.Logger, load func(context.Context) (aws.Config, error)) (aws.Config, error) {
	env, err := config.NewEnvConfig()
	if err != nil {
		return aws.Config{}, fmt.Errorf("s3: read environment: %w", err)
	}
	c := &chain{load: load, log: log, files: []string{env.SharedCredentialsFile, env.SharedConfigFile}}
	if c.files[0] == "" {
		c.files[0] = config.DefaultSharedCredentialsFilename()
	}
	if c.files[1] == "" {
		c.files[1] = config.DefaultSharedConfigFilename()
	}
	c.seen = c.look()
	cfg, err := load(ctx)
	if err != nil {
		return aws.Config{}, err
	}
	c.current = cfg.Credentials
	cfg.Credentials = c
	return cfg, nil
}

// Retrieve implements aws.CredentialsProvider.
func (c *chain) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c.mu.Lock()
	current, now := c.current, c.look()
	if c.loading || !c.changed(now) {
		c.mu.Unlock()
		return current.Retrieve(ctx)
	}
	c.loading = true
	c.mu.Unlock()

	fresh, keys, err := c.reload(ctx)
	c.mu.Lock()
	c.loading = false
	switch {
	case err == nil:
		c.current, c.seen = fresh, now
	case ctx.Err() == nil: // said once for each state of the files
		c.seen = now
	}
	c.mu.Unlock()
	if err == nil {
		return keys, nil
	}
	if ctx.Err() == nil {
		c.log.LogAttrs(ctx, slog.LevelWarn, "changed files yield no credentials; those before stay", slog.Any("error", err))
	}
	return current.Retrieve(ctx)
}

func (c *chain) reload(ctx context.Context) (aws.CredentialsProvider, aws.Credentials, error) {
	cfg, err := c.load(ctx)
	if err != nil {
		return nil, aws.Credentials{}, err
	}
	keys, err := cfg.Credentials.Retrieve(ctx)
	return cfg.Credentials, keys, err
}

// look returns what the files are like now, nil for one that is away or empty.
func (c *chain) look() []os.FileInfo {
	infos := make([]os.FileInfo, len(c.files))
	for i, name := range c.files {
		if info, err := os.Stat(name); err == nil && info.Size() > 0 {
			infos[i] = info
		}
	}
	return infos
}

// changed reports whether a file is there that was not, or differs. One that went
// is no change: it may be about to be replaced. c.mu is held.
func (c *chain) changed(now []os.FileInfo) bool {
	for i, is := range now {
		was := c.seen[i]
		if is != nil && (was == nil || !os.SameFile(was, is) || was.Size() != is.Size() || !was.ModTime().Equal(is.ModTime())) {
			return true
		}
	}
	return false
}
