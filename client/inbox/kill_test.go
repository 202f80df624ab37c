package inbox_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/client/inbox"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/storage"
)

// childVariable makes this binary an inbox instead of tests.
const childVariable = "INBOX_TEST_CHILD"

// childSettings is what an inbox in a process of its own does.
type childSettings struct {
	URL       string
	Workspace storage.WorkspaceID
	Token     string
	Dir       string
	Log       string // handler calls, a line each

	Step     string // where it stops for good, after it has said so
	Nth      int    // time that it comes there
	Meet     string // where the first two files wait for each other
	LinkOnly bool
	Compact  int // lines
	UID      int // 0: as it is
	MaxFile  uint64
	Stay     bool // follow the feed instead of draining it
	FetchBy  client.FetchWay
}

func child(ctx context.Context, text string) int {
	var s childSettings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if err := s.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (s childSettings) run(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	if err := s.confine(); err != nil {
		return err
	}
	c, err := client.New(client.Config{BaseURL: s.URL, Workspace: s.Workspace, Token: s.Token, Patience: -1, FetchBy: s.FetchBy})
	if err != nil {
		return err
	}
	in, err := inbox.New(inbox.Config{
		Client: c, Dir: s.Dir, MinFree: -1, Handler: s.handle,
		Follow: client.FollowConfig{Once: !s.Stay, Transport: client.TransportPoll, Interval: 50 * time.Millisecond},
		OnFile: func(f inbox.File) { fmt.Println("file", f.Name, f.Err) },
		OnTrouble: func(err error) {
			fmt.Println("trouble", err)
		},
	})
	if err != nil {
		return err
	}
	in.Pause(20*time.Millisecond, 50*time.Millisecond)
	if s.Compact > 0 {
		in.CompactAfter(s.Compact)
	}
	if s.LinkOnly {
		in.LinkOnly()
	}
	var mu sync.Mutex
	left := max(s.Nth, 1)
	var met atomic.Int32
	both := make(chan struct{})
	in.OnStep(func(step string) {
		if step == s.Meet {
			switch met.Add(1) {
			case 1:
				<-both
			case 2:
				close(both)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if step != s.Step {
			return
		}
		if left--; left == 0 {
			fmt.Println("at " + step)
			select {} // with the lock: nobody gets any further
		}
	})
	return in.Run(ctx)
}

// handle notes the call, and which files of the message are here.
func (s childSettings) handle(_ context.Context, m inbox.Message) error {
	line := m.Text
	for _, f := range m.Files {
		line += " " + filepath.Base(f.Path)
	}
	log, err := os.OpenFile(s.Log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(log, line); err != nil {
		return err
	}
	return log.Close()
}

// process is a child.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	output *bufio.Scanner
	files  map[string]bool // that it told of
	input  io.WriteCloser
	errors strings.Builder
}

func startChild(t *testing.T, s childSettings) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, files: map[string]bool{}, cmd: exec.CommandContext(context.WithoutCancel(t.Context()), self)}
	p.cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	p.cmd.Stderr = &p.errors
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.input = stdin
	p.output = bufio.NewScanner(stdout)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	return p
}

// scan reads a line of the output.
func (p *process) scan() bool {
	if !p.output.Scan() {
		return false
	}
	p.t.Logf("child: %s", p.output.Text())
	if name, ok := strings.CutPrefix(p.output.Text(), "file "); ok {
		p.files[name] = true
	}
	return true
}

// line waits for a line of the output that begins so.
func (p *process) line(prefix string) string {
	p.t.Helper()
	for p.scan() {
		if strings.HasPrefix(p.output.Text(), prefix) {
			return p.output.Text()
		}
	}
	_ = p.cmd.Wait()
	p.t.Fatalf("the child ended without a line that begins with %q: %s", prefix, p.errors.String())
	return ""
}

func (p *process) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	_ = p.cmd.Wait()
}

// end waits for a clean end.
func (p *process) end() {
	p.t.Helper()
	for p.scan() {
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Fatalf("the child ended with %v: %s", err, p.errors.String())
	}
}

// Promises 1, 2 and 4: wherever a process is killed, nothing half written is to
// be seen, and the next one ends with every file once, every ack, and every
// message once.
func TestKilledAtAnyStepTheNextOneFinishes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	type stop struct {
		step     string
		nth      int
		linkOnly bool
	}
	var stops []stop
	for _, step := range inbox.Steps {
		for nth := 1; nth <= 2; nth++ {
			stops = append(stops, stop{step, nth, false})
		}
	}
	for nth := 1; nth <= 3; nth++ {
		stops = append(stops, stop{inbox.StepLinked, nth, true}, stop{inbox.StepRenamed, nth, true})
	}
	for _, s := range stops {
		name := fmt.Sprintf("%s %d", s.step, s.nth)
		if s.linkOnly {
			name += " by links"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testKilledAt(t, w.user(t), childSettings{Step: s.step, Nth: s.nth, LinkOnly: s.linkOnly, Compact: 4})
		})
	}
}

func testKilledAt(t *testing.T, u *user, s childSettings) {
	t.Helper()
	large, small, other := content(200_000, 1), content(10, 2), content(3_000, 3)
	want := []string{digest(large), digest(small), digest(other)}
	slices.Sort(want)
	files := u.upload(blobFile{"report.txt", large}, blobFile{"report.txt", small}, blobFile{"data.bin", other})
	u.say("first", files...)
	own := u.connect(u.token)
	for range 2 {
		if err := own.Notify(t.Context(), wire.Notify{Message: "mine"}); err != nil {
			t.Fatal(err)
		}
	}
	u.say("second")

	s.URL, s.Workspace, s.Token, s.Dir = u.world.url, u.id, u.token, inboxDir(t)
	s.Log = filepath.Join(filepath.Dir(s.Dir), "log")
	p := startChild(t, s)
	p.line("at " + s.Step)
	p.kill()
	for name, sum := range visible(t, s.Dir) {
		if !slices.Contains(want, sum) {
			t.Errorf("after the kill %s is none of the files", name)
		}
	}

	killedIn := s.Step
	s.Step = ""
	next := startChild(t, s)
	next.end()
	told := map[string]bool{}
	for name := range visible(t, s.Dir) {
		told[name+" <nil>"] = true
	}
	maps.Copy(next.files, p.files)
	if diff := cmp.Diff(told, next.files); diff != "" {
		t.Errorf("the runs together told of other files (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, visible(t, s.Dir).digests()); diff != "" {
		t.Errorf("the folder differs (-want +got):\n%s", diff)
	}
	wantNoTemps(t, s.Dir)
	if n := u.unacked(); n != 0 {
		t.Errorf("%d files are not acked", n)
	}
	log, err := os.ReadFile(s.Log)
	if err != nil {
		t.Fatal(err)
	}
	calls := strings.Split(strings.TrimSpace(string(log)), "\n")
	if killedIn == inbox.StepAfterHandler {
		// The message may come twice: the process died while it was handled.
		calls = slices.Compact(calls)
	}
	if len(calls) != 2 || !strings.HasPrefix(calls[0], "first ") || calls[1] != "second" {
		t.Errorf("the handler was called for %q, want first and second once each", calls)
	}
	if n := len(strings.Fields(calls[0])); n != 4 {
		t.Errorf("the handler was told %q, want three files that are there", calls[0])
	}
	startChild(t, s).end() // nothing more to do
	if again, err := os.ReadFile(s.Log); err != nil || string(again) != string(log) {
		t.Errorf("another run handled more: %q, %v", again, err)
	}
}

// Two files that are alike in name and content stay two, also when the process
// dies after both were written down and one was renamed.
func TestTwinsSurviveAKill(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	twin := content(1000, 1)
	u.upload(blobFile{"twin", twin}, blobFile{"twin", twin})
	dir := inboxDir(t)
	s := childSettings{URL: u.world.url, Workspace: u.id, Token: u.token, Dir: dir, Log: dir + ".log", Meet: inbox.StepPlacingJournalled, Step: inbox.StepRenamed}
	p := startChild(t, s)
	p.line("at " + s.Step)
	p.kill()
	s.Meet, s.Step = "", ""
	startChild(t, s).end()
	wantFolder(t, dir, listing{"twin": digest(twin), "twin-2": digest(twin)})
	if n := u.unacked(); n != 0 {
		t.Errorf("%d files are not acked", n)
	}
}
