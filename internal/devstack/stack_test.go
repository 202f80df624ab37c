package devstack_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// journal keeps the lines that a stack reports.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) text() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines, "\n")
}

// environment reads the process's environment with some variables set
// otherwise, so that tests with different ones run side by side.
func environment(set map[string]string) func(string) string {
	return func(key string) string {
		if value, ok := set[key]; ok {
			return value
		}
		return os.Getenv(key)
	}
}

// stateDir is a folder for owners that an unprivileged PostgreSQL may enter.
func stateDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "state")
}

func newStack(t *testing.T, set map[string]string, dir string) (*devstack.Stack, *journal) {
	t.Helper()
	var lines journal
	stack := devstack.New(devstack.Config{Log: lines.add, Getenv: environment(set), StateDir: dir})
	t.Cleanup(func() {
		if err := stack.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return stack, &lines
}

func hostPort(t *testing.T, databaseURL string) string {
	t.Helper()
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
}

func listens(ctx context.Context, addr string) bool {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

func TestStackStartsAnswersAndStops(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{devstack.ForceDocker, devstack.ForceLocal} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			if kind == devstack.ForceDocker && !dockerWorks(t) {
				stack, _ := newStack(t, map[string]string{"DEVSTACK": kind}, stateDir(t))
				if _, err := stack.Postgres(t.Context()); err == nil {
					t.Error("DEVSTACK=docker started a server where Docker does not work")
				}
				return
			}
			dir := stateDir(t)
			var lines journal
			stack, err := devstack.Start(t.Context(), devstack.Config{
				Log: lines.add, StateDir: dir,
				Getenv: environment(map[string]string{"DEVSTACK": kind}),
			})
			if err != nil {
				t.Fatal(err)
			}
			run(t, stack.PostgresURL(), "SELECT 1")
			bucket, err := stack.S3().CreateBucket(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			putAndGet(t, bucket)
			if err := bucket.RemoveBucket(t.Context()); err != nil {
				t.Error(err)
			}
			if !strings.Contains(lines.text(), "because DEVSTACK="+kind) {
				t.Errorf("the choice is not explained: %s", lines.text())
			}

			if err := stack.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, addr := range []string{hostPort(t, stack.PostgresURL()), strings.TrimPrefix(stack.S3().Endpoint, "http://")} {
				if listens(t.Context(), addr) {
					t.Errorf("something still listens on %s", addr)
				}
			}
			left, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			if len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestDataOutlivesTheStack(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	cfg := devstack.Config{
		StateDir: dir, Data: filepath.Join(filepath.Dir(dir), "data"),
		Getenv: environment(map[string]string{"DEVSTACK": devstack.ForceLocal}),
	}
	for _, statement := range []string{"CREATE TABLE kept (id int)", "SELECT id FROM kept"} {
		stack := devstack.New(cfg)
		databaseURL, err := stack.Postgres(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		run(t, databaseURL, statement)
		if err := stack.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDeadEngineFallsToLocal(t *testing.T) {
	t.Parallel()
	stack, lines := newStack(t, map[string]string{
		"DEVSTACK": "", "DATABASE_URL": "", "DOCKER_HOST": "unix://" + filepath.Join(t.TempDir(), "none.sock"),
	}, stateDir(t))
	databaseURL, err := stack.Postgres(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	run(t, databaseURL, "SELECT 1")
	if text := lines.text(); !strings.HasPrefix(text, "PostgreSQL: local process of ") || !strings.Contains(text, "because no container engine answers at DOCKER_HOST") {
		t.Errorf("got %q, want one line that names the process and the reason", text)
	}
}

func TestSilentEngineIsGivenUpWithinFiveSeconds(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "unix", socket) // takes connections into its queue and never answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	stack, _ := newStack(t, map[string]string{"DOCKER_HOST": "unix://" + socket}, stateDir(t))
	begin := time.Now()
	if err := stack.FindEngine(t.Context()); err == nil {
		t.Error("an engine was found behind a socket that never answers")
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("took %v, want at most 5s", took)
	}
}

func TestMissingImageFallsToLocal(t *testing.T) {
	t.Parallel()
	stack, lines := newStack(t, map[string]string{
		"DEVSTACK": "", "DATABASE_URL": "", "POSTGRES_IMAGE": "registry.invalid/postgres:17",
	}, stateDir(t))
	databaseURL, err := stack.Postgres(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	run(t, databaseURL, "SELECT 1")
	if text := lines.text(); strings.Contains(text, "\n") || !strings.HasPrefix(text, "PostgreSQL: local process of ") {
		t.Errorf("got %q, want one line that names the process and the reason", text)
	}
}

func TestNamedServersAreTaken(t *testing.T) {
	t.Parallel()
	first, _ := newStack(t, nil, stateDir(t))
	databaseURL, err := first.Postgres(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, lines := newStack(t, map[string]string{"DEVSTACK": "", "DATABASE_URL": databaseURL}, stateDir(t))
	got, err := second.Postgres(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got != databaseURL {
		t.Errorf("got %q, want the server that DATABASE_URL names", got)
	}
	if !strings.Contains(lines.text(), "because DATABASE_URL names it") {
		t.Errorf("the choice is not explained: %s", lines.text())
	}
	if _, err := second.CreateMigratedDatabase(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNamedServerThatIsDeadIsAnError(t *testing.T) {
	t.Parallel()
	stack, _ := newStack(t, map[string]string{"DEVSTACK": "", "DATABASE_URL": "postgres://nobody@127.0.0.1:1/none"}, stateDir(t))
	if _, err := stack.Postgres(t.Context()); err == nil || !strings.Contains(err.Error(), "DATABASE_URL is set, but") {
		t.Errorf("got %v, want an error that names DATABASE_URL", err)
	}
}
