package main

import (
	"bufio"
	"encoding/json"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
)

// running is a command that goes on until it is stopped.
type running struct {
	t      *testing.T
	lines  chan string // of its standard output
	stderr func() string
	stop   func() (stderr string, code int)
}

func start(t *testing.T, env []string, args ...string) *running {
	t.Helper()
	cmd := command(t, env, args...)
	var errs lockedBuffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, lines: make(chan string, 1000), stderr: errs.String}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := bufio.NewScanner(out); s.Scan(); {
			r.lines <- s.Text()
		}
		close(r.lines)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
	})
	r.stop = func() (string, int) {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		<-done
		return errs.String(), cmd.ProcessState.ExitCode()
	}
	return r
}

// next waits for a line that has the text.
func (r *running) next(text string) string {
	r.t.Helper()
	late := time.After(30 * time.Second)
	for {
		select {
		case line, ok := <-r.lines:
			if !ok {
				stderr, code := r.stop()
				r.t.Fatalf("it ended with %d, no line with %q:\n%s", code, text, stderr)
			}
			if strings.Contains(line, text) {
				return line
			}
		case <-late:
			r.t.Fatalf("no line with %q within 30 s", text)
		}
	}
}

// lockedBuffer is a buffer for one writer and one reader.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func TestActivityPrintsTheLastAndFollows(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, s.env)
	env := s.user(t, p)
	if out := want0(t, env, "activity"); out != "" {
		t.Errorf("an empty feed: %q", out)
	}
	empty := start(t, env, "activity", "--follow")
	dir := t.TempDir()
	want0(t, env, "upload", file(t, dir, "a.txt", "one"), file(t, dir, "b.txt", "two"), "--message", "hello\x1b[31m\nthere")
	empty.next("a.txt  3 B  platform-pending:" + s.workspace)
	empty.next("b.txt")
	if line := empty.next("message/send"); !strings.Contains(line, `hello\x1b[31m\nthere`) {
		t.Errorf("a message with control characters: %q", line)
	}

	if out := want0(t, env, "activity", "-n", "2"); len(lines(out)) != 2 || !strings.Contains(lines(out)[0], "b.txt") || !strings.Contains(lines(out)[1], "message/send") {
		t.Errorf("-n 2:\n%s", out)
	}
	if out := want0(t, env, "activity", "--type", "a2a_send"); out != "" {
		t.Errorf("another type: %q", out)
	}
	fromNow := start(t, env, "activity", "-f", "-n", "0", "--json", "--peer-info", "--transport", "longpoll")
	// It says nothing when it has begun, so entries come until it sees one.
	c := file(t, dir, "c.txt", "three")
	eventually(t, "a new row", func() bool {
		want0(t, env, "upload", c)
		return len(fromNow.lines) > 0
	})
	empty.next("c.txt")
	var row wire.Activity
	if err := json.Unmarshal([]byte(fromNow.next("")), &row); err != nil || deref(row.Method) != wire.MethodChatUpload || !strings.Contains(string(row.RequestBody), "c.txt") {
		t.Errorf("the first new row: %+v, %v", row, err)
	}
	for _, r := range []*running{empty, fromNow} {
		if stderr, code := r.stop(); code != 0 || stderr != "" {
			t.Errorf("stopped: exit code %d, %s", code, stderr)
		}
	}
	fails(t, exitUnauthorized, []string{"token"}, append(env, "PENDINGUPLOADS_TOKEN=wrong"), "activity", "--follow")
	p.stop(t)
}
