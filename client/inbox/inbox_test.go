package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/client/inbox"
	"github.com/molecule-ai/pendinguploads/storage"
)

func TestFilesAndMessagesArrive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, transport := range []client.Transport{client.TransportAuto, client.TransportLongPoll, client.TransportPoll} {
		t.Run("by "+string(transport), func(t *testing.T) {
			t.Parallel()
			u := w.user(t)
			dir := inboxDir(t)
			in, e := u.inbox(dir, func(c *inbox.Config) {
				c.Follow = client.FollowConfig{Transport: transport, Interval: 50 * time.Millisecond}
			})
			stop := start(t, in)
			a, b := content(70_000, 1), content(5, 2)
			files := u.upload(blobFile{"a.bin", a}, blobFile{"b.txt", b})
			u.say("look", files...)
			e.until("the message is there", func() bool { return len(e.messages) == 1 })
			_, messages, _ := e.snapshot()
			m := messages[0]
			if m.Text != "look" || len(m.Files) != 2 {
				t.Fatalf("message is %q with %d files", m.Text, len(m.Files))
			}
			for i, want := range []struct {
				name string
				b    []byte
			}{{"a.bin", a}, {"b.txt", b}} {
				f := m.Files[i]
				path := filepath.Join(dir, want.name)
				if f.Path != path || f.LocalURI != "workspace:"+path || f.SHA256.String() != digest(want.b) || f.Size != int64(len(want.b)) || f.URI != files[i].URI {
					t.Errorf("file %d is %+v", i, f)
				}
				if !strings.Contains(string(m.Activity.RequestBody), `"workspace:`+path+`"`) {
					t.Errorf("%s is not in the body: %s", path, m.Activity.RequestBody)
				}
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				if info.Mode().Perm() != 0o600 {
					t.Errorf("mode of %s is %v", path, info.Mode())
				}
			}
			stop()
			wantFolder(t, dir, listing{"a.bin": digest(a), "b.txt": digest(b)})
			if n := u.unacked(); n != 0 {
				t.Errorf("%d files are not acked", n)
			}
			told, _, troubles := e.snapshot()
			if len(told) != 2 || len(troubles) != 0 {
				t.Errorf("told of files %+v and troubles %v", told, troubles)
			}
			if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("the folder is %v, %v", info.Mode(), err)
			}
		})
	}
}

func TestNamesInTheFolder(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "outside")
	mine := []byte("the user's own")
	for _, err := range []error{
		os.WriteFile(filepath.Join(dir, "taken.txt"), mine, 0o600),
		os.WriteFile(outside, mine, 0o600),
		os.Symlink(outside, filepath.Join(dir, "link.txt")),
		os.Symlink(filepath.Join(dir, "nowhere"), filepath.Join(dir, "dangling.txt")),
		os.Mkdir(filepath.Join(dir, "folder"), 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	sent := []string{"taken.txt", "taken.txt", "link.txt", "dangling.txt", "folder", "../../etc/passwd", "nul.txt", ".pendinguploads-x.part", "no ext", "TAKEN.TXT"}
	var files []blobFile
	for i, name := range sent {
		files = append(files, blobFile{name, []byte(fmt.Sprint("content ", i))})
	}
	uploaded := u.upload(files...)
	// A trap at the name of a temporary file.
	id := strings.TrimPrefix(uploaded[0].URI, "platform-pending:"+u.id.String()+"/")
	fid, err := storage.ParseFileID(id)
	if err != nil {
		t.Fatal(err)
	}
	in, e := u.inbox(dir, once, func(c *inbox.Config) { c.Fetchers = 1 })
	// Set after the start's clean-up and before the first attempt; set again at a later
	// row it could make an attempt fail that is under way, and the file come last.
	trap := sync.OnceValue(func() error { return os.Symlink(outside, filepath.Join(dir, inbox.TempName(fid))) })
	in.OnStep(func(step string) {
		if step == "row journalled" {
			if err := trap(); err != nil {
				t.Error(err)
			}
		}
	})
	drain(t, in)
	told, _, _ := e.snapshot()
	var names []string
	for _, f := range told {
		names = append(names, f.Name)
	}
	want := []string{"taken-2.txt", "taken-3.txt", "link-2.txt", "dangling-2.txt", "folder-2", "passwd", "_nul.txt", "_.pendinguploads-x.part", "no_ext", "TAKEN.TXT"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("names differ (-want +got):\n%s", diff)
	}
	for _, path := range []string{outside, filepath.Join(dir, "taken.txt")} {
		if b, err := os.ReadFile(path); err != nil || string(b) != string(mine) {
			t.Errorf("%s was changed: %q, %v", path, b, err)
		}
	}
	for i, name := range want {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s: %v, %v", name, info, err)
			continue
		}
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != string(files[i].content) {
			t.Errorf("%s holds %q, %v", name, b, err)
		}
	}
	wantNoTemps(t, dir)
}

// A disk without renameat2 gets its files by links, one without links by a look
// and a renaming; this is the first.
func TestPlacingByLinks(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	a, b := content(100, 1), content(100, 2)
	u.upload(blobFile{"a", a}, blobFile{"a", b})
	in, _ := u.inbox(dir, once)
	in.LinkOnly()
	drain(t, in)
	if diff := cmp.Diff(2, len(visible(t, dir))); diff != "" {
		t.Error(diff)
	}
	wantNoTemps(t, dir)
}

func TestASecondInboxIsRefused(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	first, e := u.inbox(dir)
	stop := start(t, first)
	u.say("are you there")
	e.until("it runs", func() bool { return len(e.messages) == 1 })

	second, _ := u.inbox(dir, once)
	if err := second.Run(t.Context()); !errors.Is(err, inbox.ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("with the same journal: %v", err)
	}
	other, _ := u.inbox(dir, once, func(c *inbox.Config) { c.Journal = filepath.Join(t.TempDir(), "other") })
	if err := other.Run(t.Context()); !errors.Is(err, inbox.ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("with another journal: %v", err)
	}
	stop()
	drain(t, second)
}

// Two folders of one workspace: each has every file, or is told that the other
// one was first; nothing fails.
func TestTwoInboxesOfOneWorkspace(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	var files []blobFile
	for i := range 12 {
		files = append(files, blobFile{fmt.Sprintf("%d.bin", i), content(1000+i, uint64(i))})
	}
	dirs := []string{inboxDir(t), inboxDir(t)}
	var all []*events
	var stops []func()
	for _, dir := range dirs {
		in, e := u.inbox(dir)
		stops, all = append(stops, start(t, in)), append(all, e)
	}
	u.upload(files...)
	for _, e := range all {
		e.until("each file came or was given up", func() bool { return len(e.files) == len(files) })
	}
	for _, stop := range stops {
		stop()
	}
	here := map[string]bool{}
	for i, e := range all {
		for _, f := range e.files {
			switch {
			case f.Err == nil:
				here[f.Name] = true
			case !errors.Is(f.Err, client.ErrNotFound):
				t.Errorf("file %s was given up with %v", f.Name, f.Err)
			}
		}
		if len(e.troubles) > 0 {
			t.Errorf("troubles %v", e.troubles)
		}
		wantNoTemps(t, dirs[i])
	}
	if len(here) != len(files) || u.unacked() != 0 {
		t.Errorf("%d files are somewhere, %d not acked", len(here), u.unacked())
	}
}

// Nothing that is to be seen, and nothing acked: what came is gone on with.
func TestStoppingLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	u.upload(blobFile{"a.bin", content(500_000, 1)})
	ctx, cancel := context.WithCancel(t.Context())
	// The rest of the content never comes.
	proxy := u.world.through(t, func(w http.ResponseWriter, r *http.Request, service http.Handler) {
		if isContent(r) {
			w.Header().Set("Content-Length", "500000")
			_, _ = w.Write(content(500_000, 1)[:100_000])
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		service.ServeHTTP(w, r)
	})
	in, e := u.inbox(dir, u.via(proxy))
	in.OnStep(func(step string) {
		if step == inbox.StepBytesWritten {
			cancel()
		}
	})
	if err := in.Run(ctx); err != nil {
		t.Errorf("a stop is %v", err)
	}
	if got := visible(t, dir); len(got) != 0 || u.unacked() != 1 {
		t.Errorf("the folder shows %v, %d not acked", got, u.unacked())
	}
	if files, _, troubles := e.snapshot(); len(files)+len(troubles) > 0 {
		t.Errorf("told of %v, %v", files, troubles)
	}
	again, _ := u.inbox(dir, once)
	drain(t, again)
	wantFolder(t, dir, listing{"a.bin": digest(content(500_000, 1))})
}

func TestConfigIsValidated(t *testing.T) {
	t.Parallel()
	c, err := client.New(client.Config{BaseURL: "http://127.0.0.1:1", Workspace: storage.WorkspaceID{1}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for want, cfg := range map[string]inbox.Config{
		"Client":       {Dir: dir},
		"Dir":          {Client: c},
		"URIStyle":     {Client: c, Dir: dir, URIStyle: "http:"},
		"Fetchers":     {Client: c, Dir: dir, Fetchers: -1},
		"MaxFileBytes": {Client: c, Dir: dir, MaxFileBytes: -1},
		"Journal":      {Client: c, Dir: dir, Journal: filepath.Join(dir, "journal")},
	} {
		if _, err := inbox.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New without a good %s: %v", want, err)
		}
	}
	if _, err := inbox.New(inbox.Config{Client: c, Dir: dir, Journal: dir + ".of"}); err != nil {
		t.Error(err)
	}
}
