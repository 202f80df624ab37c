package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
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
	all := <-text
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, all)
	}
	return all
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
