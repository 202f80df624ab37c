package e2e

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/internal/servertest"
	"github.com/molecule-ai/pendinguploads/storage"
)

// receiver is `pendinguploads inbox` of a workspace, started again and again.
type receiver struct {
	server    string
	workspace storage.WorkspaceID
	token     string
	dir       string // its journal and its list of messages lie beside it
	output    bytes.Buffer
}

// noteMessage works for a moment, then appends the message's id to a file, in one
// write. It does nothing once the inbox is gone, as if it had been killed with it.
const noteMessage = `sleep 0.04; kill -0 $PPID && printf '%s\n' "$PENDINGUPLOADS_ACTIVITY_ID" >>"$HANDLED"; :`

func (r *receiver) command(ctx context.Context, t *testing.T, flags ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, servertest.Binary(t), append([]string{"inbox", "--dir", r.dir, "--json", "--exec", noteMessage}, flags...)...)
	home := filepath.Dir(r.dir)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_CONFIG_HOME=" + home, "HANDLED=" + r.dir + ".handled",
		"PENDINGUPLOADS_SERVER=" + r.server, "PENDINGUPLOADS_WORKSPACE=" + r.workspace.String(), "PENDINGUPLOADS_TOKEN=" + r.token,
	}
	cmd.Stdout = &r.output
	return cmd
}

// once runs the command until there is nothing more.
func (r *receiver) once(t *testing.T) {
	t.Helper()
	cmd := r.command(t.Context(), t, "--once")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		t.Errorf("inbox --once: %v\n%s", err, stderr.String())
	}
}

// handled is the ids of the messages that the command was run for.
func (r *receiver) handled(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(r.dir + ".handled")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// daemon is a receiver that runs.
type daemon struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	ended  chan struct{}
	err    error // once ended is closed
}

func (r *receiver) start(t *testing.T) *daemon {
	t.Helper()
	d := &daemon{cmd: r.command(context.WithoutCancel(t.Context()), t), ended: make(chan struct{})}
	d.cmd.Stderr = &d.stderr
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(d.ended)
		d.err = d.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		<-d.ended
	})
	return d
}

// alive fails the test when the daemon has ended.
func (d *daemon) alive(t *testing.T) {
	t.Helper()
	select {
	case <-d.ended:
		t.Fatalf("the inbox ended by itself: %v\n%s", d.err, d.stderr.String())
	default:
	}
}

// killAfter ends the daemon with SIGKILL after a while.
func (d *daemon) killAfter(t *testing.T, while time.Duration) {
	t.Helper()
	pause(t.Context(), while)
	d.alive(t)
	_ = d.cmd.Process.Kill()
	<-d.ended
}

// stop ends the daemon with SIGTERM and wants a clean end.
func (d *daemon) stop(t *testing.T) {
	t.Helper()
	d.alive(t)
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	<-d.ended
	if d.err != nil {
		t.Errorf("the inbox ended with %v\n%s", d.err, d.stderr.String())
	}
}
