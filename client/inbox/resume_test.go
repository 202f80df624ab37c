package inbox_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/client/inbox"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/storage"
)

// breaking cuts the first answers with content off after as many bytes as cuts
// says, and notes the ranges that were asked for.
type breaking struct {
	mu     sync.Mutex
	cuts   []int
	down   bool // after the cuts there is nothing
	ranges []string
}

// heal ends what was wrong, and forgets what was asked for meanwhile.
func (b *breaking) heal() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cuts, b.down, b.ranges = nil, false, nil
}

func (b *breaking) between(w http.ResponseWriter, r *http.Request, service http.Handler) {
	if !isContent(r) {
		service.ServeHTTP(w, r)
		return
	}
	b.mu.Lock()
	b.ranges = append(b.ranges, r.Header.Get("Range"))
	cut, down := -1, false
	if len(b.cuts) > 0 {
		cut, b.cuts = b.cuts[0], b.cuts[1:]
	} else {
		down = b.down
	}
	b.mu.Unlock()
	if down {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	if cut >= 0 {
		w = &cutting{ResponseWriter: w, left: cut}
	}
	service.ServeHTTP(w, r)
}

func (b *breaking) asked() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.ranges)
}

// cutting breaks the connection off after so many bytes.
type cutting struct {
	http.ResponseWriter
	left int
}

func (c *cutting) Write(p []byte) (int, error) {
	p = p[:min(len(p), c.left)]
	n, err := c.ResponseWriter.Write(p)
	if c.left -= n; c.left == 0 {
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

func (c *cutting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// A fetch whose attempts have ended goes on where it stopped at the next one.
func TestABrokenFetchGoesOn(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	b := content(300_000, 1)
	u.upload(blobFile{"a.bin", b})
	breaks := &breaking{cuts: []int{100_000, 0, 100_000}}
	in, e := u.inbox(dir, u.via(u.world.through(t, breaks.between)))
	stop := start(t, in)
	e.until("the file came", func() bool { return len(e.files) == 1 })
	stop()
	wantFolder(t, dir, listing{"a.bin": digest(b)})
	if diff := cmp.Diff([]string{"", "bytes=100000-", "bytes=100000-", "bytes=200000-"}, breaks.asked()); diff != "" {
		t.Errorf("ranges differ (-want +got):\n%s", diff)
	}
	if n := u.unacked(); n != 0 {
		t.Errorf("%d files are not acked", n)
	}
}

func pendingFile(t *testing.T, f wire.UploadedFile) storage.FileID {
	t.Helper()
	id, err := storage.ParseFileID(f.URI[strings.LastIndexByte(f.URI, '/')+1:])
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// The next run goes on as well, whatever has become of the beginning meanwhile.
func TestTheNextRunGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := content(300_000, 1)
	outside := []byte("somebody else's")
	change := func(f func([]byte) []byte) func(*testing.T, string, string) {
		return func(t *testing.T, path, _ string) {
			t.Helper()
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, f(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		tamper func(t *testing.T, path, outside string)
		ranges []string
	}{
		"as it was":     {func(*testing.T, string, string) {}, []string{"bytes=100000-"}},
		"shorter":       {change(func(b []byte) []byte { return b[:70_000] }), []string{"bytes=70000-"}},
		"empty":         {change(func([]byte) []byte { return nil }), []string{""}},
		"torn":          {change(func(b []byte) []byte { return append(b[:90_000], make([]byte, 10_000)...) }), []string{"bytes=100000-", ""}},
		"whole":         {change(func([]byte) []byte { return b }), []string{"bytes=299999-"}},
		"with a tail":   {change(func([]byte) []byte { return append(slices.Clone(b), 1, 2, 3) }), []string{"bytes=299999-"}},
		"gone":          {func(_ *testing.T, path, _ string) { _ = os.Remove(path) }, []string{""}},
		"made a trap":   {func(_ *testing.T, path, outside string) { _ = os.Remove(path); _ = os.Symlink(outside, path) }, []string{""}},
		"made a folder": {func(_ *testing.T, path, _ string) { _ = os.Remove(path); _ = os.Mkdir(path, 0o700) }, []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := w.user(t)
			dir := inboxDir(t)
			id := pendingFile(t, u.upload(blobFile{"a.bin", b})[0])
			breaks := &breaking{cuts: []int{100_000}, down: true}
			proxy := w.through(t, breaks.between)
			in, _ := u.inbox(dir, once, u.via(proxy))
			if err := in.Run(t.Context()); !errors.Is(err, inbox.ErrUnfinished) {
				t.Fatalf("Run ended with %v", err)
			}
			if got := visible(t, dir); len(got) != 0 {
				t.Errorf("the folder shows %v", got)
			}
			other := filepath.Join(t.TempDir(), "outside")
			if err := os.WriteFile(other, outside, 0o600); err != nil {
				t.Fatal(err)
			}
			c.tamper(t, filepath.Join(dir, inbox.TempName(id)), other)
			breaks.heal()
			// The client tries again by itself where the digest shows damage.
			patient := func(c *client.Config) { proxy(c); c.Patience = client.DefaultPatience }
			again, _ := u.inbox(dir, once, u.via(patient))
			drain(t, again)
			wantFolder(t, dir, listing{"a.bin": digest(b)})
			if diff := cmp.Diff(c.ranges, breaks.asked()); diff != "" {
				t.Errorf("ranges differ (-want +got):\n%s", diff)
			}
			if text, err := os.ReadFile(other); err != nil || string(text) != string(outside) {
				t.Errorf("a file outside was changed: %q, %v", text, err)
			}
			if n := u.unacked(); n != 0 {
				t.Errorf("%d files are not acked", n)
			}
		})
	}
}

// A process that was killed has written down what the next one needs.
func TestAKilledFetchGoesOn(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	b := content(300_000, 1)
	u.upload(blobFile{"a.bin", b})
	var asked breaking
	var cfg client.Config
	u.world.through(t, asked.between)(&cfg)
	s := childSettings{URL: cfg.BaseURL, Workspace: u.id, Token: u.token, Dir: dir, Log: dir + ".log", Step: inbox.StepBytesWritten}
	p := startChild(t, s)
	p.line("at " + s.Step)
	p.kill()
	s.Step = ""
	startChild(t, s).end()
	wantFolder(t, dir, listing{"a.bin": digest(b)})
	if ranges := asked.asked(); len(ranges) != 2 || ranges[0] != "" || !strings.HasPrefix(ranges[1], "bytes=") {
		t.Errorf("the ranges asked for are %q", ranges)
	}
	if n := u.unacked(); n != 0 {
		t.Errorf("%d files are not acked", n)
	}
}

// Content that was replaced is fetched from its beginning.
func TestContentThatChangedMeanwhileBeginsAnew(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	before, after := content(300_000, 1), content(300_000, 2)
	u.upload(blobFile{"a.bin", before})
	var mu sync.Mutex
	serve, first, healed := before, true, false
	var tags []string // that were asked with, once it is healed
	proxy := u.world.through(t, func(w http.ResponseWriter, r *http.Request, service http.Handler) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case isContent(r) && !first && !healed:
			w.WriteHeader(http.StatusBadGateway)
		case isContent(r):
			w.Header().Set("ETag", `"`+digest(serve)+`"`)
			w.Header().Set("Content-Length", "300000")
			if first {
				first = false
				w = &cutting{ResponseWriter: w, left: 100_000}
			} else {
				tags = append(tags, r.Header.Get("If-Range"))
			}
			_, _ = w.Write(serve)
		case isAck(r):
			_, _ = w.Write([]byte(`{"acked":true}`))
		default:
			service.ServeHTTP(w, r)
		}
	})
	in, _ := u.inbox(dir, once, u.via(proxy))
	if err := in.Run(t.Context()); !errors.Is(err, inbox.ErrUnfinished) {
		t.Fatalf("Run ended with %v", err)
	}
	mu.Lock()
	serve, healed = after, true
	mu.Unlock()
	again, _ := u.inbox(dir, once, u.via(proxy))
	drain(t, again)
	wantFolder(t, dir, listing{"a.bin": digest(after)})
	if diff := cmp.Diff([]string{`"` + digest(before) + `"`}, tags); diff != "" {
		t.Errorf("tags asked with differ (-want +got):\n%s", diff)
	}
}

// Of what an earlier run left half written, only that stays which is gone on with.
func TestOnlyWhatIsGoneOnWithStays(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	b := content(300_000, 1)
	kept := pendingFile(t, u.upload(blobFile{"a.bin", b})[0])
	breaks := &breaking{cuts: []int{100_000}, down: true}
	proxy := u.world.through(t, breaks.between)
	in, _ := u.inbox(dir, once, u.via(proxy))
	if err := in.Run(t.Context()); !errors.Is(err, inbox.ErrUnfinished) {
		t.Fatalf("Run ended with %v", err)
	}
	stranger := filepath.Join(dir, inbox.TempName(storage.FileID{1}))
	if err := os.WriteFile(stranger, b, 0o600); err != nil {
		t.Fatal(err)
	}
	again, _ := u.inbox(dir, once, u.via(proxy))
	if err := again.Run(t.Context()); !errors.Is(err, inbox.ErrUnfinished) {
		t.Fatalf("Run ended with %v", err)
	}
	if _, err := os.Lstat(stranger); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that nobody goes on with stays: %v", err)
	}
	if info, err := os.Lstat(filepath.Join(dir, inbox.TempName(kept))); err != nil || info.Size() != 100_000 {
		t.Errorf("what is gone on with is %v, %v", info, err)
	}
	// It goes with the file.
	u.exec(`UPDATE pending_uploads SET expires_at = now() - interval '1 minute' WHERE workspace_id = $1`, u.id.String())
	last, _ := u.inbox(dir, once)
	drain(t, last)
	wantFolder(t, dir, listing{})
}
