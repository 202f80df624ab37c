package devstack_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

func TestServersOfAKilledOwnerAreReaped(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{devstack.ForceDocker, devstack.ForceLocal} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			set := map[string]string{"DEVSTACK": kind}
			if kind == devstack.ForceDocker && !dockerWorks(t) {
				return
			}
			dir := stateDir(t)
			addrs := startAndKill(t, kind, dir)

			// As long as its lock is held an owner is left alone, so first
			// show that there is something to reap.
			for _, addr := range addrs {
				if !listens(t.Context(), addr) {
					t.Fatalf("nothing listens on %s: the kill alone took the server down", addr)
				}
			}
			stack, lines := newStack(t, set, dir)
			if err := stack.Own(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, addr := range addrs {
				waitUntil(t, "nothing listens on "+addr, func() bool { return !listens(t.Context(), addr) })
			}
			owners, err := filepath.Glob(filepath.Join(dir, "owner-*"))
			if err != nil {
				t.Fatal(err)
			}
			if len(owners) != 1 {
				t.Errorf("got owners %v, want the living one alone", owners)
			}
			if !strings.Contains(lines.text(), "that a killed run left behind") {
				t.Errorf("the reaping is not reported: %q", lines.text())
			}
		})
	}
}

func TestLivingOwnerIsLeftAlone(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	set := map[string]string{"DEVSTACK": devstack.ForceLocal}
	living, _ := newStack(t, set, dir)
	databaseURL, err := living.Postgres(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other, _ := newStack(t, set, dir)
	if err := other.Own(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, databaseURL, "SELECT 1")
}

// A recycled process id must not cost an innocent process its life.
func TestProcessWithAnotherStartIsLeftAlone(t *testing.T) {
	t.Parallel()
	innocent := exec.CommandContext(t.Context(), "sleep", "600")
	innocent.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := innocent.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- innocent.Wait() }()
	dir := stateDir(t)
	dead := filepath.Join(dir, "owner-DEAD")
	if err := os.MkdirAll(dead, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"lock":    "",
		"started": `{"pid":` + strconv.Itoa(innocent.Process.Pid) + `,"start":"another"}` + "\n" + `{"pid":`,
	} {
		if err := os.WriteFile(filepath.Join(dead, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stack, _ := newStack(t, nil, dir)
	if err := stack.Own(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dead); !os.IsNotExist(err) {
		t.Errorf("the dead owner's folder is still there (%v)", err)
	}
	select {
	case err := <-ended:
		t.Errorf("a process that was not ours was ended: %v", err)
	default:
	}
	if err := innocent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("the process ended by itself")
	}
}

func TestInterruptedTestBinaryStopsItsServers(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			command, output := binary(t, "-test.run=^TestHoldsADatabase$", holdVariable+"=1", "DEVSTACK="+devstack.ForceLocal)
			addr := hostPort(t, readLine(t, output, "postgres://"))
			if !listens(t.Context(), addr) {
				t.Fatalf("nothing listens on %s", addr)
			}
			if err := command.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			_ = command.Wait()
			if code, want := command.ProcessState.ExitCode(), 128+int(signal); code != want {
				t.Errorf("exit code %d, want %d", code, want)
			}
			if listens(t.Context(), addr) {
				t.Errorf("something still listens on %s", addr)
			}
		})
	}
}

const holdVariable = "DEVSTACK_TEST_HOLD"

// TestHoldsADatabase gets a database; as a child of the test above it prints
// where it is and waits for the signal.
func TestHoldsADatabase(t *testing.T) {
	t.Parallel()
	databaseURL := devstack.EmptyDatabase(t)
	if os.Getenv(holdVariable) == "" {
		return
	}
	if _, err := os.Stdout.WriteString(databaseURL + "\n"); err != nil {
		t.Fatal(err)
	}
	<-t.Context().Done()
}

// startAndKill starts servers in a child, kills it, and returns where they
// listen.
func startAndKill(t *testing.T, kind, dir string) []string {
	t.Helper()
	command, output := binary(t, "-test.run=^$", childStateDir+"="+dir, "DEVSTACK="+kind)
	addrs := []string{
		hostPort(t, readLine(t, output, "postgres://")),
		strings.TrimPrefix(readLine(t, output, "http://"), "http://"),
	}
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait()
	return addrs
}

// binary runs this test binary again.
func binary(t *testing.T, run string, env ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), self, run)
	command.Env = append(os.Environ(), env...)
	command.Env = append(command.Env, "DATABASE_URL=", "S3_ENDPOINT=")
	command.Stderr = t.Output()
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return command, bufio.NewScanner(io.Reader(output))
}

func readLine(t *testing.T, output *bufio.Scanner, prefix string) string {
	t.Helper()
	for output.Scan() {
		if strings.HasPrefix(output.Text(), prefix) {
			return output.Text()
		}
	}
	t.Fatalf("the child ended without a line that starts with %s", prefix)
	return ""
}

// dockerWorks tells whether this machine's engine can run the images. Where it
// cannot, there is nothing of it to reap; that the other way is then taken is
// TestStackStartsAnswersAndStops' business.
func dockerWorks(t *testing.T) bool {
	t.Helper()
	stack, lines := newStack(t, map[string]string{"DEVSTACK": "", "DATABASE_URL": ""}, stateDir(t))
	if _, err := stack.Postgres(t.Context()); err != nil {
		t.Fatal(err)
	}
	return strings.Contains(lines.text(), "container of ")
}

func waitUntil(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline.C:
			t.Fatalf("in vain waited until %s", what)
		case <-tick.C:
		}
	}
}
