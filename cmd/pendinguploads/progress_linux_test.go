package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal: what is written to screen can be read from here.
func terminal(t *testing.T) (here, screen *os.File) {
	t.Helper()
	here, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = here.Close() })
	fd := int(here.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 30, Col: 120}); err != nil {
		t.Fatal(err)
	}
	screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	return here, screen
}

// shown runs the program on a terminal and returns everything that it showed.
func shown(t *testing.T, env []string, args ...string) string {
	t.Helper()
	all, err := onTerminal(t, env, args...)
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, all)
	}
	return all
}

func onTerminal(t *testing.T, env []string, args ...string) (string, error) {
	t.Helper()
	here, screen := terminal(t)
	cmd := command(t, env, args...)
	cmd.Stdout, cmd.Stderr = screen, screen
	text := make(chan string)
	go func() {
		var all strings.Builder
		_, _ = bufio.NewReader(here).WriteTo(&all) // until nobody has the screen open
		text <- all.String()
	}()
	err := cmd.Run()
	_ = screen.Close()
	return <-text, err
}

// redrawn is how bars are drawn again: up some lines, and all below goes.
var redrawn = regexp.MustCompile(`\x1b\[(\d+)A\x1b\[J`)

// remains is what is on the screen at the end.
func remains(t *testing.T, all string) string {
	t.Helper()
	for {
		at := redrawn.FindStringSubmatchIndex(all)
		if at == nil {
			return all
		}
		up, err := strconv.Atoi(all[at[2]:at[3]])
		if err != nil {
			t.Fatal(err)
		}
		before := all[:at[0]]
		for range up + 1 { // the line that it stands in has nothing yet
			before = before[:max(strings.LastIndexByte(before, '\n'), 0)]
		}
		if before != "" {
			before += "\n"
		}
		all = before + all[at[1]:]
	}
}

func TestATerminalShowsBarsWithRateAndTimeLeft(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, s.env)
	env := s.user(t, p)
	path := file(t, t.TempDir(), "large.bin", strings.Repeat("x", 20<<20))
	bar := regexp.MustCompile(`large\.bin +\[[=>-]+\] +[0-9.]+ MiB / 20\.0 MiB +[0-9.]+ [KMG]?i?B/s +ETA [0-9]`)
	up := shown(t, env, "upload", path)
	if !bar.MatchString(up) || !strings.Contains(up, "platform-pending:") {
		t.Errorf("upload:\n%q", up)
	}
	dir := filepath.Join(t.TempDir(), "inbox")
	if in := shown(t, env, "inbox", "--once", "--dir", dir); !bar.MatchString(in) || !strings.Contains(in, "file  20.0 MiB  "+dir) {
		t.Errorf("inbox:\n%q", in)
	}
	// Elsewhere there are plain lines.
	_, stderr, code := result(t, env, "upload", path)
	if code != 0 || strings.ContainsAny(stderr, "[\r\x1b") || !strings.HasPrefix(stderr, "uploaded ") {
		t.Errorf("not a terminal: exit code %d, %q", code, stderr)
	}
	p.stop(t)
}

func TestOffloadLogsAboveItsBar(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.inlineRows(t, 20, 4096)
	s.exec(t, `UPDATE pending_uploads SET sha256 = sha256('other') WHERE file_id = (SELECT file_id FROM pending_uploads ORDER BY file_id LIMIT 1 OFFSET 5)`)
	all, err := onTerminal(t, s.env, "offload", "--workers=1", "--rows-per-second=20")
	if err == nil || !regexp.MustCompile(`move +\[[=>-]+\] +[0-9.]+ KiB / 80\.0 KiB +[0-9.]+ [KMG]?i?B/s +ETA [0-9]`).MatchString(all) {
		t.Errorf("%v\n%q", err, all)
	}
	lines := strings.Split(strings.ReplaceAll(remains(t, all), "\r", ""), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], "time=") || !strings.Contains(lines[0], "content is not what was staged") ||
		!strings.HasPrefix(lines[1], "moved: rows=19 ") || !strings.HasPrefix(lines[2], "pendinguploads: 1 files are not what was staged") || lines[3] != "" {
		t.Errorf("%q remains of\n%q", lines, all)
	}
}
