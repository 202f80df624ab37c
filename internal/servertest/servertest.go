// Package servertest runs the product as real processes for tests: `serve` on a
// database and a bucket of its own, to be stopped, killed and started again.
package servertest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/storage"
)

// AdminToken is the administrator's token of every server.
const AdminToken = "admin-token-of-the-test"

// built is the product's binary, built once for the tests of a package.
var built struct {
	once sync.Once
	path string
	err  error
}

// Main runs a package's tests and ends the process; a TestMain calls it.
func Main(m *testing.M, checks ...func() error) {
	devstack.Main(m, append(checks, func() error {
		if built.path == "" {
			return nil
		}
		return os.RemoveAll(filepath.Dir(built.path))
	})...)
}

// Binary is the path of the product's binary.
func Binary(tb testing.TB) string {
	tb.Helper()
	built.once.Do(func() { built.path, built.err = build() })
	if built.err != nil {
		tb.Fatal(built.err)
	}
	return built.path
}

func build() (string, error) {
	dir, err := os.MkdirTemp("", "pendinguploads-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "pendinguploads")
	out, err := exec.Command("go", "build", "-o", path, "github.com/molecule-ai/pendinguploads/cmd/pendinguploads").CombinedOutput() //nolint:noctx // outlives any one test
	if err != nil {
		return "", errors.Join(fmt.Errorf("build: %w\n%s", err, out), os.RemoveAll(dir))
	}
	return path, nil
}

// Stack is a database and a bucket, for any number of servers.
type Stack struct {
	Database string // URL
	S3       devstack.S3
	Env      []string // of the product's commands
}

// NewStack makes a migrated database and a bucket of its own; both go with the
// test. Registration is open, and nothing limits the rate.
func NewStack(tb testing.TB, env ...string) *Stack {
	tb.Helper()
	return NewStackOn(tb, devstack.MinIOUser(tb), env...)
}

// NewStackOn is NewStack with a bucket that is there, reached by the endpoint and
// the identity given with it.
func NewStackOn(tb testing.TB, bucket devstack.S3, env ...string) *Stack {
	tb.Helper()
	s := &Stack{Database: devstack.Database(tb), S3: bucket}
	s.Env = append(append(os.Environ(),
		"DATABASE_URL="+s.Database, "RATE_LIMIT=0", "REGISTRATION=open", "ADMIN_TOKEN="+AdminToken,
		"S3_BUCKET="+s.S3.Bucket, "S3_ENDPOINT="+s.S3.Endpoint, "S3_REGION="+s.S3.Region, "S3_USE_PATH_STYLE="+strconv.FormatBool(s.S3.PathStyle),
		"AWS_ACCESS_KEY_ID="+s.S3.AccessKey, "AWS_SECRET_ACCESS_KEY="+s.S3.SecretKey, "AWS_SESSION_TOKEN="+s.S3.SessionToken,
	), env...)
	return s
}

// Workspace creates a workspace in poll mode.
func (s *Stack) Workspace(tb testing.TB, name string) (id storage.WorkspaceID, token string) {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), Binary(tb), "workspace", "create", name)
	cmd.Env = s.Env
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("workspace create: %v", err)
	}
	var created struct {
		ID    storage.WorkspaceID `json:"id"`
		Token string              `json:"auth_token"`
	}
	if err := json.Unmarshal(out, &created); err != nil {
		tb.Fatalf("workspace create: %v: %s", err, out)
	}
	return created.ID, created.Token
}

// Server is a running `serve`.
type Server struct {
	URL string // http://127.0.0.1:PORT

	stack *Stack
	env   []string
	cmd   *exec.Cmd
	done  chan struct{} // closed when the process has ended

	mu  sync.Mutex
	log []string
}

var serving = regexp.MustCompile(`msg=serving addr=(\S+)`)

// Serve starts a server and waits until it serves. It ends with the test.
func (s *Stack) Serve(tb testing.TB, env ...string) *Server {
	tb.Helper()
	v := &Server{stack: s, env: env}
	v.start(tb, "127.0.0.1:0")
	tb.Cleanup(func() {
		_ = v.cmd.Process.Kill()
		<-v.done
	})
	return v
}

func (v *Server) start(tb testing.TB, addr string) {
	tb.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(tb.Context()), Binary(tb), "serve")
	cmd.Env = append(append(append([]string(nil), v.stack.Env...), "LISTEN_ADDR="+addr), v.env...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	v.cmd, v.done = cmd, make(chan struct{})
	listening, done := make(chan string, 1), v.done
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			v.mu.Lock()
			v.log = append(v.log, lines.Text())
			v.mu.Unlock()
			if m := serving.FindStringSubmatch(lines.Text()); m != nil {
				listening <- m[1]
			}
		}
		_ = cmd.Wait()
	}()
	select {
	case a := <-listening:
		v.URL = "http://" + a
	case <-done:
		tb.Fatalf("serve ended:\n%s", v.Log())
	case <-time.After(time.Minute):
		tb.Fatalf("serve did not start:\n%s", v.Log())
	}
}

// PID is the server's process.
func (v *Server) PID() int { return v.cmd.Process.Pid }

// Log is what the server has logged.
func (v *Server) Log() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return strings.Join(v.log, "\n")
}

// Kill ends the server with SIGKILL.
func (v *Server) Kill(tb testing.TB) {
	tb.Helper()
	if err := v.cmd.Process.Kill(); err != nil {
		tb.Fatal(err)
	}
	<-v.done
}

// Stop ends the server with SIGTERM and wants a clean end.
func (v *Server) Stop(tb testing.TB) {
	tb.Helper()
	if err := v.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		tb.Fatal(err)
	}
	<-v.done
	if code := v.cmd.ProcessState.ExitCode(); code != 0 {
		tb.Errorf("exit code %d:\n%s", code, v.Log())
	}
}

// Restart starts a server that was stopped or killed, at the same address.
func (v *Server) Restart(tb testing.TB) {
	tb.Helper()
	v.start(tb, strings.TrimPrefix(v.URL, "http://"))
}

// Client is a client of the server.
func (v *Server) Client(tb testing.TB, id storage.WorkspaceID, token string, change ...func(*client.Config)) *client.Client {
	tb.Helper()
	cfg := client.Config{BaseURL: v.URL, Workspace: id, Token: token}
	for _, f := range change {
		f(&cfg)
	}
	c, err := client.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}
