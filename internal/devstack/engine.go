package devstack

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tclog "github.com/testcontainers/testcontainers-go/log"
)

// engineAnswer bounds the search for a container engine. One that runs answers
// within milliseconds.
const engineAnswer = 2 * time.Second

// engine is a container engine that answered.
type engine struct {
	client *testcontainers.DockerClient
}

// findEngine asks for the container engine once and remembers the answer.
func (s *Stack) findEngine(ctx context.Context) (*engine, error) {
	return s.engine.get(func() (*engine, error) {
		ctx, cancel := context.WithTimeout(ctx, engineAnswer)
		defer cancel()
		return connectEngine(ctx, s.cfg.Getenv("DOCKER_HOST"))
	})
}

// silenceTestcontainers takes away the library's own log, which is one variable
// for the whole process.
var silenceTestcontainers = sync.OnceFunc(func() { tclog.SetDefault(tclog.NewNoopLogger()) })

// connectEngine connects to the engine at host, or with an empty host to the
// one that testcontainers finds (the current docker context, the usual
// sockets). A host that was named is meant: when it is dead no other is taken.
func connectEngine(ctx context.Context, host string) (*engine, error) {
	if host != "" {
		if err := ping(ctx, host); err != nil {
			return nil, fmt.Errorf("no container engine answers at DOCKER_HOST %s: %w", host, err)
		}
	}
	// testcontainers reads its environment at first use, so this must come
	// before. See the package comment for why its reaper is off.
	if _, set := os.LookupEnv("TESTCONTAINERS_RYUK_DISABLED"); !set {
		if err := os.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true"); err != nil {
			return nil, fmt.Errorf("set TESTCONTAINERS_RYUK_DISABLED: %w", err)
		}
	}
	silenceTestcontainers()
	client, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, fmt.Errorf("no container engine answers within %s", engineAnswer)
		}
		return nil, fmt.Errorf("no container engine answers: %s", firstLine(err.Error()))
	}
	return &engine{client: client}, nil
}

func ping(ctx context.Context, host string) (err error) {
	c, err := client.New(client.FromEnv, client.WithHost(host))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	_, err = c.Ping(ctx, client.PingOptions{})
	return err
}

// remoteHost is the engine's host name where it is reached over the network,
// else "".
func (e *engine) remoteHost() string {
	u, err := url.Parse(e.client.DaemonHost())
	if err != nil || u.Scheme == "unix" || u.Scheme == "npipe" {
		return ""
	}
	return u.Hostname()
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
