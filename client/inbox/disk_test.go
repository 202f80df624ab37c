package inbox_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/molecule-ai/pendinguploads/client/inbox"
)

// Promise 7: no partial file, no ack, a clear error, recovery.

func TestNoRoomOnTheDisk(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	b := content(1000, 1)
	u.upload(blobFile{"a.bin", b})
	var fetched atomic.Bool
	proxy := u.world.through(t, func(w http.ResponseWriter, r *http.Request, service http.Handler) {
		if isContent(r) {
			fetched.Store(true)
		}
		service.ServeHTTP(w, r)
	})
	in, e := u.inbox(dir, once, u.via(proxy), func(c *inbox.Config) { c.MinFree = math.MaxInt64 / 2 })
	err := in.Run(t.Context())
	var space *inbox.SpaceError
	if !errors.Is(err, inbox.ErrUnfinished) || !errors.As(err, &space) {
		t.Fatalf("Run ended with %v", err)
	}
	if space.Name != "a.bin" || space.Need != math.MaxInt64/2+1000 || space.Free <= 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the error is %+v", space)
	}
	if _, _, troubles := e.snapshot(); len(troubles) != 1 || !strings.Contains(troubles[0].Error(), "a.bin") || !strings.Contains(troubles[0].Error(), fmt.Sprint(space.Free)) {
		t.Errorf("troubles %v", troubles)
	}
	if fetched.Load() {
		t.Error("bytes were asked for that have no room")
	}
	wantFolder(t, dir, listing{})
	again, _ := u.inbox(dir, once)
	drain(t, again)
	wantFolder(t, dir, listing{"a.bin": digest(b)})
}

// A limit on file sizes fails writes half way, as a full disk does.
func TestTheDiskFillsUpMeanwhile(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	large, small := content(200_000, 1), content(1_000, 2)
	u.upload(blobFile{"large.bin", large}, blobFile{"small.bin", small})
	p := startChild(t, childSettings{URL: u.world.url, Workspace: u.id, Token: u.token, Dir: dir, Log: dir + ".log", MaxFile: 100_000, Stay: true})
	text := p.line("trouble")
	for _, want := range []string{"large.bin", "no space", "200000", "are free"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q does not say %s", text, want)
		}
	}
	if sum, there := visible(t, dir)["large.bin"]; there {
		t.Errorf("a part of the file is there: %s", sum)
	}
	if n := u.count(`SELECT count(*) FROM pending_uploads WHERE workspace_id = $1 AND filename = 'large.bin' AND acked_at IS NULL`, u.id.String()); n != 1 {
		t.Error("the file was acked")
	}
	if _, err := io.WriteString(p.input, "room\n"); err != nil {
		t.Fatal(err)
	}
	p.line("file large.bin")
	p.line("trouble <nil>")
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.end()
	wantFolder(t, dir, listing{"large.bin": digest(large), "small.bin": digest(small)})
	if n := u.unacked(); n != 0 {
		t.Errorf("%d files are not acked", n)
	}
}

// The same for the journal: it heals once there is room, and nothing is lost.
func TestTheJournalHasNoRoom(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	b := content(10, 1)
	u.say("one", u.upload(blobFile{"a.bin", b})...)
	u.say("two")
	s := childSettings{URL: u.world.url, Workspace: u.id, Token: u.token, Dir: dir, Log: dir + ".log", MaxFile: 150, Stay: true}
	p := startChild(t, s)
	if text := p.line("trouble"); !strings.Contains(text, dir+".journal") {
		t.Errorf("%q does not name the journal", text)
	}
	if n := u.unacked(); n != 1 {
		t.Error("the file was acked")
	}
	if _, err := io.WriteString(p.input, "room\n"); err != nil {
		t.Fatal(err)
	}
	p.line("trouble <nil>")
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.end()
	s.MaxFile, s.Stay = 0, false
	startChild(t, s).end()
	wantFolder(t, dir, listing{"a.bin": digest(b)})
	if n := u.unacked(); n != 0 {
		t.Errorf("%d files are not acked", n)
	}
	log, err := os.ReadFile(s.Log)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(log), "one"); n != 1 {
		t.Errorf("the handler was called with %q", log)
	}
	if n := strings.Count(string(log), "two"); n != 1 {
		t.Errorf("the handler was called with %q", log)
	}
}

func TestAReadOnlyFolder(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	// An own base: the test's own folder may not be searched by others.
	base, err := os.MkdirTemp("", "inbox-test-") //nolint:usetesting // another user works in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	dir := filepath.Join(base, "inbox")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := childSettings{URL: u.world.url, Workspace: u.id, Token: u.token, Dir: dir, Log: filepath.Join(base, "log"), Stay: true}
	if os.Geteuid() == 0 {
		// Permissions do not bind root.
		s.UID = 65534
		for _, path := range []string{base, dir} {
			if err := os.Chown(path, s.UID, s.UID); err != nil {
				t.Fatal(err)
			}
		}
	}
	mode := func(m os.FileMode) {
		t.Helper()
		if err := os.Chmod(dir, m); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { mode(0o700) })

	mode(0o500)
	p := startChild(t, s)
	for p.scan() {
		t.Errorf("the child says %q", p.output.Text())
	}
	if err := p.cmd.Wait(); err == nil || !strings.Contains(p.errors.String(), dir+": permission denied") {
		t.Errorf("a start in a read-only folder ended with %v: %s", err, p.errors.String())
	}

	mode(0o700)
	p = startChild(t, s)
	first, second := content(10, 1), content(20, 2)
	u.upload(blobFile{"first", first})
	p.line("file first")
	mode(0o500)
	u.upload(blobFile{"second", second})
	if text := p.line("trouble"); !strings.Contains(text, dir) || !strings.Contains(text, "permission denied") {
		t.Errorf("the trouble is %q", text)
	}
	if n := u.unacked(); n != 1 {
		t.Errorf("%d files are not acked", n)
	}
	mode(0o700)
	p.line("trouble <nil>")
	p.line("file second")
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.end()
	wantFolder(t, dir, listing{"first": digest(first), "second": digest(second)})
}

func TestAFolderThatVanishes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, back := range map[string]func(dir, moved string) error{
		"and comes back":    func(dir, moved string) error { return os.Rename(moved, dir) },
		"and another comes": func(dir, _ string) error { return os.Mkdir(dir, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := w.user(t)
			dir := inboxDir(t)
			moved := dir + ".moved"
			in, e := u.inbox(dir)
			stop := start(t, in)
			first, second := content(10, 1), content(20, 2)
			u.upload(blobFile{"first", first})
			e.until("the first file came", func() bool { return len(e.files) == 1 })
			if err := os.Rename(dir, moved); err != nil {
				t.Fatal(err)
			}
			u.say("second", u.upload(blobFile{"second", second})...)
			e.until("the trouble is told, and the message came", func() bool { return len(e.troubles) == 1 && len(e.messages) == 1 })
			var folder *inbox.FolderError
			if !errors.As(e.troubles[0], &folder) || folder.Path != dir || !errors.Is(folder, os.ErrNotExist) {
				t.Errorf("the trouble is %v", e.troubles[0])
			}
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the folder was made again: %v", err)
			}
			if u.unacked() != 1 || e.messages[0].Files[0].Path != "" {
				t.Errorf("%d not acked, message with %+v", u.unacked(), e.messages[0].Files)
			}
			if err := back(dir, moved); err != nil {
				t.Fatal(err)
			}
			e.until("the second file came", func() bool { return len(e.files) == 2 && len(e.troubles) == 2 })
			stop()
			if e.troubles[1] != nil {
				t.Errorf("then the trouble is %v", e.troubles[1])
			}
			if got := visible(t, dir)["second"]; got != digest(second) {
				t.Errorf("second is %s", got)
			}
			if n := u.unacked(); n != 0 {
				t.Errorf("%d files are not acked", n)
			}
			wantNoTemps(t, dir)
		})
	}
}

// The folder goes while a file is on its way: neither the old nor the new one
// gets it before it was looked at again.
func TestAFolderThatVanishesUnderAFetch(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	moved := dir + ".moved"
	b := content(300_000, 1)
	u.upload(blobFile{"a.bin", b})
	in, e := u.inbox(dir)
	gone := false
	in.OnStep(func(step string) {
		if step == inbox.StepBytesWritten && !gone {
			gone = true
			if err := os.Rename(dir, moved); err != nil {
				t.Error(err)
			}
		}
	})
	stop := start(t, in)
	e.until("the trouble is told", func() bool { return len(e.troubles) == 1 })
	wantFolder(t, moved, listing{})
	if n := u.unacked(); n != 1 {
		t.Error("the file was acked")
	}
	if err := os.Rename(moved, dir); err != nil {
		t.Fatal(err)
	}
	e.until("the file came", func() bool { return len(e.files) == 1 })
	stop()
	wantFolder(t, dir, listing{"a.bin": digest(b)})
}
