//go:build compose

package compose_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	adminToken = "admin-token-of-the-compose-test"
	// healthyWithin bounds the start of the service once its container runs.
	healthyWithin = time.Minute
)

// project is the compose file under a name of its own, on a port of its own.
type project struct {
	command []string // docker-compose, or docker compose
	name    string
	port    int
}

// newProject finds compose and a free port.
func newProject(t *testing.T) project {
	t.Helper()
	var listen net.ListenConfig
	listener, err := listen.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	p := project{name: "pendinguploads-test-" + strings.ToLower(rand.Text()[:8]), port: port}
	for _, command := range [][]string{{"docker", "compose"}, {"docker-compose"}} {
		if exec.CommandContext(t.Context(), command[0], append(command[1:], "version")...).Run() == nil {
			p.command = command
			return p
		}
	}
	t.Fatal("neither docker compose nor docker-compose is there, and this test is about them")
	return p
}

// run runs a compose command and returns its output.
func (p project) run(ctx context.Context, t *testing.T, args ...string) string {
	t.Helper()
	args = append(append(p.command[1:], "-p", p.name), args...)
	command := exec.CommandContext(ctx, p.command[0], args...)
	command.Dir = "../.."
	command.Env = append(os.Environ(), "PORT="+strconv.Itoa(p.port), "BIND_ADDRESS=127.0.0.1", "ADMIN_TOKEN="+adminToken, "REGISTRATION=closed", "READ_AFTER_ACK=false")
	var out, problems bytes.Buffer
	command.Stdout, command.Stderr = &out, &problems
	if err := command.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, out.String(), problems.String())
	}
	return out.String()
}

// docker runs a docker command and returns its output.
func docker(ctx context.Context, t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(ctx, "docker", args...).Output()
	if err != nil {
		t.Fatalf("docker %s: %v", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out))
}

func TestComposeUpMainJobDown(t *testing.T) {
	p := newProject(t)
	// Set apart from the test's context, which is over when cleanups run.
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(p.run(ctx, t, "logs", "--no-color"))
		}
		p.run(ctx, t, "down", "-v", "--remove-orphans")
		for _, kind := range []string{"container", "volume", "network"} {
			if left := docker(ctx, t, kind, "ls", "-q", "--filter", "label=com.docker.compose.project="+p.name); left != "" {
				t.Errorf("down left a %s behind: %s", kind, left)
			}
		}
	})
	p.run(ctx, t, "up", "-d", "--build")

	containers := map[string]string{}
	for _, service := range []string{"postgres", "minio", "pendinguploads"} {
		containers[service] = strings.TrimSpace(p.run(ctx, t, "ps", "-q", service))
		waitHealthy(t, service, containers[service])
	}
	checkHardening(t, containers["pendinguploads"])
	mainJob(t, "http://127.0.0.1:"+strconv.Itoa(p.port))

	// What was acked before is still gone, and the service comes back, when
	// its container is replaced: all state is in the two volumes.
	p.run(ctx, t, "restart", "pendinguploads")
	waitHealthy(t, "pendinguploads", containers["pendinguploads"])
	mainJob(t, "http://127.0.0.1:"+strconv.Itoa(p.port))
}

func waitHealthy(t *testing.T, service, container string) {
	t.Helper()
	deadline := time.NewTimer(healthyWithin)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		health := docker(t.Context(), t, "inspect", "--format", "{{.State.Health.Status}}", container)
		if health == "healthy" {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("%s is %s, want healthy within %s", service, health, healthyWithin)
		case <-tick.C:
		}
	}
}

func checkHardening(t *testing.T, container string) {
	t.Helper()
	var inspected []struct {
		Config     struct{ User string }
		HostConfig struct {
			ReadonlyRootfs bool
			CapDrop        []string
		}
	}
	if err := json.Unmarshal([]byte(docker(t.Context(), t, "inspect", container)), &inspected); err != nil {
		t.Fatal(err)
	}
	c := inspected[0]
	if user := c.Config.User; user == "" || user == "root" || strings.HasPrefix(user, "0") {
		t.Errorf("the service runs as %q, want an unprivileged user", user)
	}
	if !c.HostConfig.ReadonlyRootfs {
		t.Error("the service's root file system can be written to")
	}
	if got := fmt.Sprint(c.HostConfig.CapDrop); got != "[ALL]" {
		t.Errorf("capabilities dropped: %s, want [ALL]", got)
	}
}
