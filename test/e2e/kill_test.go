package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/client/inbox"
	"github.com/molecule-ai/pendinguploads/internal/servertest"
	"github.com/molecule-ai/pendinguploads/storage"
)

// rounds is how often a process is killed.
const rounds = 100

// inboxCommand is `pendinguploads inbox` of a workspace.
func inboxCommand(ctx context.Context, t *testing.T, server string, id storage.WorkspaceID, token, dir string, flags ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, servertest.Binary(t), append([]string{"inbox", "--dir", dir, "--json"}, flags...)...)
	cmd.Env = []string{
		"HOME=" + filepath.Dir(dir), "XDG_CONFIG_HOME=" + filepath.Dir(dir),
		"PENDINGUPLOADS_SERVER=" + server, "PENDINGUPLOADS_WORKSPACE=" + id.String(), "PENDINGUPLOADS_TOKEN=" + token,
	}
	return cmd
}

// someFiles are one to three, small or of more than one read.
func someFiles(sent *sums, r *rand.Rand) []client.File {
	var files []client.File
	for range 1 + r.IntN(3) {
		size := 1 + r.IntN(8<<10)
		if r.IntN(4) == 0 {
			size = 1 + r.IntN(4<<20)
		}
		files = append(files, sent.file(r, size))
	}
	return files
}

func TestInboxKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	stack := servertest.NewStack(t)
	server := stack.Serve(t)
	id, token := stack.Workspace(t, "laptop")
	c := server.Client(t, id, servertest.AdminToken)
	random, sent := newRandom(), newSums()
	dir := filepath.Join(t.TempDir(), "inbox")
	for range rounds {
		files, err := c.Upload(t.Context(), someFiles(sent, random), client.UploadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Send(t.Context(), client.Message{Text: "look", Files: files}); err != nil {
			t.Fatal(err)
		}
		cmd := inboxCommand(t.Context(), t, server.URL, id, token, dir)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = cmd.Wait()
		}()
		select {
		case <-time.After(time.Duration(random.IntN(300)) * time.Millisecond):
			_ = cmd.Process.Kill()
			<-ended
		case <-ended:
			t.Fatalf("the inbox ended by itself:\n%s", stderr.String())
		}
		sent.check(t, dir)
	}
	if out, err := inboxCommand(t.Context(), t, server.URL, id, token, dir, "--once").CombinedOutput(); err != nil {
		t.Fatalf("inbox --once: %v\n%s", err, out)
	}
	sent.missing(t, sent.check(t, dir), nil)
	if a, u := acked(t, stack.Database); a != sent.next || u != 0 {
		t.Errorf("%d files acknowledged, %d not, want %d and 0", a, u, sent.next)
	}
	t.Logf("%d kills, %d files", rounds, sent.next)
}

func TestServerKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	stack := servertest.NewStack(t)
	server := stack.Serve(t)
	id, token := stack.Workspace(t, "laptop")
	random, sent := newRandom(), newSums()
	dir := filepath.Join(t.TempDir(), "inbox")

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	box, err := inbox.New(inbox.Config{
		Client: server.Client(t, id, token), Dir: dir, MinFree: -1, Heartbeat: time.Second,
		OnFile: func(f inbox.File) {
			if f.Err != nil {
				t.Errorf("%s was given up: %v", f.Name, f.Err)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	var ran error
	running.Go(func() { ran = box.Run(ctx) })

	// An upload whose answer the kill took away may have been staged or not.
	var mu sync.Mutex
	doubtful := map[string]bool{}
	uploader := server.Client(t, id, token, func(c *client.Config) { c.Patience = -1 })
	for range rounds {
		files := someFiles(sent, random)
		uploaded := make(chan struct{})
		go func() {
			defer close(uploaded)
			if _, err := uploader.Upload(t.Context(), files, client.UploadOptions{}); err != nil {
				mu.Lock()
				defer mu.Unlock()
				for _, f := range files {
					doubtful[f.Name] = true
				}
			}
		}()
		pause(t.Context(), time.Duration(random.IntN(150))*time.Millisecond)
		server.Kill(t)
		<-uploaded
		server.Restart(t)
	}
	stop()
	running.Wait()
	if ran != nil && !errors.Is(ran, context.Canceled) {
		t.Errorf("the inbox ended with %v", ran)
	}
	if out, err := inboxCommand(t.Context(), t, server.URL, id, token, dir, "--once").CombinedOutput(); err != nil {
		t.Fatalf("inbox --once: %v\n%s", err, out)
	}
	there := sent.check(t, dir)
	sent.missing(t, there, doubtful)
	if a, u := acked(t, stack.Database); a != len(there) || u != 0 {
		t.Errorf("%d files acknowledged, %d not; %d are in the folder", a, u, len(there))
	}
	t.Logf("%d kills; %d files arrived of %d, %d of them in doubt", rounds, len(there), sent.next, len(doubtful))
}

// Two receivers of one workspace share its files: what one acknowledges first is
// gone for the other, which goes on.
func TestTwoInboxesOfOneWorkspace(t *testing.T) {
	t.Parallel()
	stack := servertest.NewStack(t)
	server := stack.Serve(t)
	id, token := stack.Workspace(t, "laptop")
	c := server.Client(t, id, servertest.AdminToken)
	random, sent := newRandom(), newSums()
	for n := range 20 {
		files, err := c.Upload(t.Context(), someFiles(sent, random), client.UploadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Send(t.Context(), client.Message{Text: fmt.Sprint("message ", n), Files: files}); err != nil {
			t.Fatal(err)
		}
	}
	parent := t.TempDir()
	var dirs, outputs [2]string
	var running sync.WaitGroup
	for i := range dirs {
		dirs[i] = filepath.Join(parent, fmt.Sprint("inbox", i))
		running.Go(func() {
			out, err := inboxCommand(t.Context(), t, server.URL, id, token, dirs[i], "--once").CombinedOutput()
			if err != nil {
				t.Errorf("inbox %d: %v\n%s", i, err, out)
			}
			outputs[i] = string(out)
		})
	}
	running.Wait()
	there := sent.check(t, dirs[0])
	for name := range sent.check(t, dirs[1]) {
		there[name] = true
	}
	sent.missing(t, there, nil)
	if a, u := acked(t, stack.Database); a != sent.next || u != 0 {
		t.Errorf("%d files acknowledged, %d not, want %d and 0", a, u, sent.next)
	}
	for i, out := range outputs {
		if n := strings.Count(out, `"message/send"`) + strings.Count(out, `message `); n == 0 {
			t.Errorf("inbox %d saw no message:\n%s", i, out)
		}
	}
}
