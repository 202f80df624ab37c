package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/testcontainers/testcontainers-go"
)

const (
	// ownerLabel marks a container with its owner's name, for the reaping.
	ownerLabel = "pendinguploads.devstack.owner"
	// containerReady bounds the start of a server in a container.
	containerReady = time.Minute
	// containerReach bounds the wait for any of the engine's addresses to
	// accept a connection at all.
	containerReach = 20 * time.Second
)

// containerSpec is a server to be run in a container.
type containerSpec struct {
	image   string
	port    string // "5432/tcp"
	env     map[string]string
	command []string
	// folders are the folders that hold data: in memory, or, with volumes
	// set, in the named volume of the same key.
	folders map[string]string
	volumes bool
}

// runContainer starts the container, waits until the server answers at one of
// the addresses at which a published port may be reached from here, and
// returns that address.
func (s *Stack) runContainer(ctx context.Context, spec containerSpec, answers func(ctx context.Context, addr string) error) (addr string, err error) {
	engine, err := s.findEngine(ctx)
	if err != nil {
		return "", err
	}
	answer := pullAnswer
	if s.cfg.Getenv("DEVSTACK") == forceDocker {
		answer = pullAnswerForced
	}
	if err := ensureImage(ctx, engine.client, spec.image, answer, s.cfg.Log); err != nil {
		return "", err
	}
	owner, err := s.own(ctx)
	if err != nil {
		return "", err
	}
	if err := owner.note(entry{Containers: true}); err != nil {
		return "", err
	}
	c, err := testcontainers.Run(ctx, spec.image,
		testcontainers.WithExposedPorts(spec.port),
		testcontainers.WithEnv(spec.env),
		testcontainers.WithCmd(spec.command...),
		testcontainers.WithLabels(map[string]string{ownerLabel: owner.name}),
		testcontainers.WithHostConfigModifier(func(host *container.HostConfig) {
			for _, folder := range slices.Sorted(maps.Keys(spec.folders)) {
				m := mount.Mount{Type: mount.TypeTmpfs, Target: folder}
				if spec.volumes {
					m.Type, m.Source = mount.TypeVolume, spec.folders[folder]
				}
				host.Mounts = append(host.Mounts, m)
			}
		}),
	)
	terminate := func(ctx context.Context) error {
		if c == nil {
			return nil
		}
		if err := testcontainers.TerminateContainer(c, testcontainers.StopContext(ctx), testcontainers.StopTimeout(stopGrace(spec.volumes))); err != nil {
			return fmt.Errorf("stop container of %s: %w", spec.image, err)
		}
		return nil
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("run image %s: %w", spec.image, err), terminate(context.WithoutCancel(ctx)))
	}
	addr, err = reach(ctx, engine, c, spec.port, answers)
	if err != nil {
		return "", errors.Join(fmt.Errorf("run image %s: %w", spec.image, err), terminate(context.WithoutCancel(ctx)))
	}
	if _, err := s.onStop(ctx, terminate); err != nil {
		return "", err
	}
	return addr, nil
}

// stopGrace is how long a server may take to stop. One whose data is thrown
// away need not be asked twice.
func stopGrace(durable bool) time.Duration {
	if durable {
		return 10 * time.Second
	}
	return 0
}

// reach waits until the server answers at one of the container's addresses.
func reach(ctx context.Context, engine *engine, c *testcontainers.DockerContainer, port string, answers func(ctx context.Context, addr string) error) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, containerReady)
	defer cancel()
	inspected, err := c.Inspect(ctx)
	if err != nil {
		return "", err
	}
	candidates, err := addresses(engine, inspected, port)
	if err != nil {
		return "", err
	}
	return waitAnswer(ctx, candidates, answers, func() error {
		state, err := c.State(ctx)
		if err != nil {
			return err
		}
		if !state.Running {
			return fmt.Errorf("it exited with code %d: %s", state.ExitCode, lastLog(ctx, c))
		}
		return nil
	})
}

// addresses lists where the published port may be reached from here. An engine
// on this machine publishes on localhost; seen from inside a container
// localhost may be the wrong one, and then a gateway is right.
func addresses(engine *engine, inspected *container.InspectResponse, port string) ([]string, error) {
	p, err := network.ParsePort(port)
	if err != nil {
		return nil, fmt.Errorf("parse port %q: %w", port, err)
	}
	published := ""
	for _, binding := range inspected.NetworkSettings.Ports[p] {
		// An engine may publish on different ports for IPv4 and IPv6.
		if published == "" || !binding.HostIP.Is6() {
			published = binding.HostPort
		}
	}
	if published == "" {
		return nil, fmt.Errorf("port %s is not published", port)
	}
	hosts := []string{"127.0.0.1"}
	if remote := engine.remoteHost(); remote != "" {
		hosts = []string{remote}
	} else if insideContainer() {
		for _, n := range inspected.NetworkSettings.Networks {
			if n.Gateway.IsValid() {
				hosts = append(hosts, n.Gateway.String())
			}
		}
		hosts = append(hosts, "host.docker.internal")
	}
	if override := os.Getenv("TESTCONTAINERS_HOST_OVERRIDE"); override != "" {
		hosts = []string{override}
	}
	list := make([]string, len(hosts))
	for i, host := range hosts {
		list[i] = net.JoinHostPort(host, published)
	}
	return list, nil
}

func insideContainer() bool {
	for _, file := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Stat(file); err == nil {
			return true
		}
	}
	return false
}

// waitAnswer tries the candidates in turn until one answers. alive tells why it
// is pointless to go on.
func waitAnswer(ctx context.Context, candidates []string, answers func(ctx context.Context, addr string) error, alive func() error) (string, error) {
	deadline := time.Now().Add(containerReach)
	reached := false
	for round := 0; ; round++ {
		var last error
		for i, addr := range candidates {
			if i > 0 && isName(addr) && (reached || round < nameAfter) {
				continue
			}
			if err := dial(ctx, addr); err != nil {
				last = err
				continue
			}
			reached = true
			if last = answers(ctx, addr); last == nil {
				return firstAnswer(ctx, candidates, addr, answers), nil
			}
		}
		// Once in a while is often enough to ask the engine.
		if round%10 == 9 {
			if err := alive(); err != nil {
				return "", err
			}
		}
		if !reached && time.Now().After(deadline) {
			return "", fmt.Errorf("its published port cannot be reached at %s: %w", strings.Join(candidates, " or "), last)
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("it does not answer: %w", last)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// nameAfter is the round from which a name is looked up, where addresses come
// before it: the system's look-up of one that does not exist may go on for
// seconds after nobody wants it any more.
const nameAfter = 40

func isName(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && net.ParseIP(host) == nil
}

// firstAnswer is the first candidate that answers, now that the one given does:
// those before it may only have been asked a moment too early.
func firstAnswer(ctx context.Context, candidates []string, known string, answers func(ctx context.Context, addr string) error) string {
	for _, addr := range candidates {
		if addr == known {
			break
		}
		if dial(ctx, addr) == nil && answers(ctx, addr) == nil {
			return addr
		}
	}
	return known
}

func dial(ctx context.Context, addr string) error {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

// lastLog is the end of the container's log, for an error's text.
func lastLog(ctx context.Context, c *testcontainers.DockerContainer) string {
	logs, err := c.Logs(ctx)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = logs.Close() }()
	text, err := io.ReadAll(io.LimitReader(logs, 1<<20))
	if err != nil {
		return err.Error()
	}
	return tail(text)
}

// tail is the last few hundred bytes of a log as one line.
func tail(text []byte) string {
	const keep = 600
	if len(text) > keep {
		text = text[len(text)-keep:]
	}
	return oneLine(string(text))
}
