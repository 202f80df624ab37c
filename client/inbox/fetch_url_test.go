package inbox_test

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/client/inbox"
)

// storeFront stands before the object store for those who come with URLs.
type storeFront struct {
	mu     sync.Mutex
	cuts   []int // bytes after which the first answers break off
	ranges []string
	tokens int
}

// before has URLs lead to the front.
func (f *storeFront) before(t *testing.T) func(*s3blob.Config) {
	t.Helper()
	return func(cfg *s3blob.Config) {
		target, err := url.Parse(cfg.Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		transport := &http.Transport{}
		t.Cleanup(transport.CloseIdleConnections)
		store := &httputil.ReverseProxy{
			Transport: transport, FlushInterval: -1,
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(target)
				r.Out.Host = r.In.Host // it is part of the signature
			},
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
		}
		cfg.PublicEndpoint = serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f.mu.Lock()
			f.ranges = append(f.ranges, r.Header.Get("Range"))
			if r.Header.Get("Authorization") != "" {
				f.tokens++
			}
			if len(f.cuts) > 0 {
				w, f.cuts = &cutting{ResponseWriter: w, left: f.cuts[0]}, f.cuts[1:]
			}
			f.mu.Unlock()
			store.ServeHTTP(w, r)
		})})
	}
}

// seen returns the ranges that were asked for since the last call.
func (f *storeFront) seen(t *testing.T) []string {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tokens > 0 {
		t.Errorf("%d tokens reached the object store", f.tokens)
	}
	ranges := f.ranges
	f.ranges = nil
	return ranges
}

// An inbox that fetches by URL goes on after what broke, in the next run too.
func TestABrokenFetchByURLGoesOn(t *testing.T) {
	t.Parallel()
	f := &storeFront{cuts: []int{100_000, 100_000}}
	u := newWorldWith(t, f.before(t)).user(t)
	dir := inboxDir(t)
	b := content(300_000, 1)
	u.upload(blobFile{"a.bin", b})
	in, e := u.inbox(dir, u.via(func(c *client.Config) { c.FetchBy = client.FetchByURL }))
	stop := start(t, in)
	e.until("the file came", func() bool { return len(e.files) == 1 })
	stop()
	wantFolder(t, dir, listing{"a.bin": digest(b)})
	if diff := cmp.Diff([]string{"", "bytes=100000-", "bytes=200000-"}, f.seen(t)); diff != "" {
		t.Errorf("ranges differ (-want +got):\n%s", diff)
	}
	if n := u.unacked(); n != 0 {
		t.Errorf("%d files are not acked", n)
	}
}

// A process that was killed while it fetched by URL has written down what the next
// one needs, whichever way that one fetches.
func TestAKilledFetchByURLGoesOn(t *testing.T) {
	t.Parallel()
	var f storeFront
	w := newWorldWith(t, f.before(t))
	for _, next := range []client.FetchWay{client.FetchByURL, client.FetchByProxy} {
		u := w.user(t)
		dir := inboxDir(t)
		b := content(300_000, 1)
		u.upload(blobFile{"a.bin", b})
		var asked breaking
		var cfg client.Config
		w.through(t, asked.between)(&cfg)
		s := childSettings{URL: cfg.BaseURL, Workspace: u.id, Token: u.token, Dir: dir, Log: dir + ".log", Step: inbox.StepBytesWritten, FetchBy: client.FetchByURL}
		p := startChild(t, s)
		p.line("at " + s.Step)
		p.kill()
		s.Step, s.FetchBy = "", next
		startChild(t, s).end()
		wantFolder(t, dir, listing{"a.bin": digest(b)})
		// The service is asked for two URLs, or for one and then for the rest.
		ranges := append(f.seen(t), asked.asked()[1:]...)
		if next == client.FetchByURL {
			ranges = ranges[:len(ranges)-1]
		}
		if len(ranges) != 2 || ranges[0] != "" || !strings.HasPrefix(ranges[1], "bytes=") {
			t.Errorf("the next by %s: the ranges asked for are %q", next, ranges)
		}
		if n := u.unacked(); n != 0 {
			t.Errorf("%d files are not acked", n)
		}
	}
}

// The steps of a fetch are the same by URL: killed at each, the next run finishes.
func TestKilledAtTheStepsOfAFetchByURL(t *testing.T) {
	t.Parallel()
	var f storeFront
	w := newWorldWith(t, f.before(t))
	t.Run("steps", func(t *testing.T) {
		for _, step := range []string{inbox.StepTagJournalled, inbox.StepBytesWritten, inbox.StepFileSynced} {
			t.Run(step, func(t *testing.T) {
				t.Parallel()
				testKilledAt(t, w.user(t), childSettings{Step: step, Nth: 2, FetchBy: client.FetchByURL})
			})
		}
	})
	if n := len(f.seen(t)); n < 9 {
		t.Errorf("%d reads of the object store, want one a file at least", n)
	}
}
