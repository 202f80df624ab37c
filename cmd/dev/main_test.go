package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// childVariable makes this test binary the command itself.
const childVariable = "DEV_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		main()
	}
	os.Exit(m.Run())
}

// child is the command in a process of its own, as its users run it.
func child(t *testing.T, arguments []string, env ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), self, arguments...)
	command.Env = append(append(os.Environ(), childVariable+"=1"), env...)
	return command
}

func TestDemoEndsWell(t *testing.T) {
	t.Parallel()
	for name, env := range map[string][]string{"as found": nil, "local": {"DEVSTACK=local"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			command := child(t, []string{"demo"}, env...)
			var problems strings.Builder
			command.Stderr = &problems
			out, err := command.Output()
			if err != nil {
				t.Fatalf("%v\n%s%s", err, out, problems.String())
			}
			for _, step := range []string{
				"registered: ", "uploaded: ", "staged: 3 objects in the bucket, 3 rows in the table", "message: ", "received: 3 files",
				"delivered: ", "live: 5 files", "fetched again: ", "before the sweep: 8 objects in the bucket, 8 rows in the table",
				"swept: 8 acked", "after the sweep: 0 objects in the bucket, 0 rows in the table", "done: ",
			} {
				_, rest, found := strings.Cut("\n"+string(out), "\n"+step)
				if !found {
					t.Fatalf("step %q is missing or out of order in\n%s", step, out)
				}
				out = []byte(rest)
			}
		})
	}
}

func TestDemoFailsAtTheFirstThingThatIsWrong(t *testing.T) {
	t.Parallel()
	command := child(t, []string{"demo"}, "DEVSTACK=", "DATABASE_URL=postgres://nobody@127.0.0.1:1/none")
	out, err := command.CombinedOutput()
	if err == nil || command.ProcessState.ExitCode() != 1 {
		t.Errorf("got %v, want exit code 1", err)
	}
	if !strings.Contains(string(out), "DATABASE_URL is set, but") {
		t.Errorf("the cause is not named in\n%s", out)
	}
}

// The lines that are printed for pasting are pasted.
func TestUpServesUntilInterrupted(t *testing.T) {
	t.Parallel()
	command := child(t, nil, "LISTEN_ADDR=localhost:0", "LOG_LEVEL=warn")
	command.Stderr = t.Output()
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	text := untilPrompt(t, output)
	if !regexp.MustCompile(`(?m)^admin token  \S{20,}$`).MatchString(text) {
		t.Errorf("no admin token in\n%s", text)
	}
	lines := slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool { return !strings.Contains(line, "curl ") })
	if len(lines) != 4 {
		t.Fatalf("got %d lines with curl, want 4, in\n%s", len(lines), text)
	}
	if _, err := exec.LookPath("curl"); err == nil {
		paste(t, lines)
	}
	pasteInbox(t, text)
	if err := command.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); err != nil {
		t.Errorf("after the interrupt: %v", err)
	}
}

func untilPrompt(t *testing.T, output io.Reader) string {
	t.Helper()
	var text strings.Builder
	for scanner := bufio.NewScanner(output); scanner.Scan(); {
		text.WriteString(scanner.Text() + "\n")
		if strings.HasPrefix(scanner.Text(), "Interrupt") {
			return text.String()
		}
	}
	t.Fatalf("ended before it served:\n%s", text.String())
	return ""
}

// paste runs upload, feed, fetch and ack in one shell and looks at the replies.
func paste(t *testing.T, lines []string) {
	t.Helper()
	shell := exec.CommandContext(t.Context(), "sh", "-e")
	shell.Stdin = strings.NewReader(strings.Join(lines, "\necho\n") + "\n")
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{`{"files":[{"uri":"platform-pending:`, `"method":"chat_upload_receive"`, "\nhello\n", `{"acked":true}`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
}

// pasteInbox runs the lines about a folder, the one that waits with --once.
func pasteInbox(t *testing.T, text string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "inbox")
	var receive, send string
	for line := range strings.Lines(text) {
		switch {
		case strings.HasSuffix(line, "inbox --dir inbox\n"):
			receive = strings.Replace(strings.TrimSpace(line), "--dir inbox", "--dir "+dir+" --once", 1)
		case strings.Contains(line, "pendinguploads upload "):
			send = strings.TrimSpace(line)
		}
	}
	shell := exec.CommandContext(t.Context(), "sh", "-ec", send+"\n"+receive)
	shell.Dir = filepath.Join("..", "..")
	shell.Env = append(os.Environ(), "XDG_CONFIG_HOME="+t.TempDir())
	if out, err := shell.CombinedOutput(); err != nil || !strings.Contains(string(out), "please look") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "README.md")); err != nil {
		t.Error(err)
	}
}
