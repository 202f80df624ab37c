package handlers_test

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/storage"
)

// contentURL is the reply to delivery=url.
type contentURL struct {
	URL       string            `json:"url"`
	ExpiresAt time.Time         `json:"expires_at"`
	SHA256    string            `json:"sha256"`
	Size      int64             `json:"size"`
	Headers   map[string]string `json:"headers"`
}

// url asks for the file's URL.
func (w *world) contentURL(f staged, token string) contentURL {
	w.t.Helper()
	got := w.do("GET", f.path("content")+"?delivery=url", token, nil)
	if got.status != http.StatusOK {
		w.t.Fatalf("delivery=url: %d %s", got.status, got.body)
	}
	var u contentURL
	got.json(w.t, &u)
	return u
}

// open gets what a URL leads to, with nothing but what it asks for.
func (w *world) open(method string, u contentURL, headers ...string) reply {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, u.URL, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for name, value := range u.Headers {
		req.Header.Set(name, value)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(body)}
}

// deliveries is the metric by its label.
func (w *world) deliveries() map[string]int {
	w.t.Helper()
	counted := map[string]int{}
	for _, how := range []string{"proxy", "url", "redirect", "signed"} {
		if n := w.gauge(`pendinguploads_content_deliveries_total{how="` + how + `"}`); n > 0 {
			counted[how] = n
		}
	}
	return counted
}

// unstamp forgets what was fetched.
func (w *world) unstamp() { w.exec(`UPDATE pending_uploads SET fetched_at = NULL`) }

func redirecting(all bool) func(*handlers.Config) {
	return func(cfg *handlers.Config) { cfg.Delivery.Redirect, cfg.Delivery.RedirectAll = true, all }
}

func TestURLOfContentNeedsNoToken(t *testing.T) {
	t.Parallel()
	eachPlacement(t, func(t *testing.T, placement func(*testing.T) func(*handlers.Config)) {
		w := newServer(t, placement(t))
		ws, token := w.workspace("poll")
		content := pattern(300 << 10)
		f := w.mustUpload(ws, token, part{name: "a.html", mimeType: "text/html", content: content})[0]
		before := time.Now()
		reply := w.do("GET", f.path("content")+"?delivery=url", token, nil)
		if got := reply.header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("the reply with the URL has Cache-Control %q", got)
		}
		if !strings.Contains(reply.body, `"headers":{}`) {
			t.Errorf("no headers as {}: %s", reply.body)
		}
		var u contentURL
		reply.json(t, &u)
		if u.SHA256 != sha256Hex([]byte(content)) || u.Size != int64(len(content)) {
			t.Errorf("described as %d bytes of %s", u.Size, u.SHA256)
		}
		if end := u.ExpiresAt.Sub(before); end > handlers.DefaultURLTTL+time.Minute || end < handlers.DefaultURLTTL-2*time.Second {
			t.Errorf("it ends after %v, want %v", end, handlers.DefaultURLTTL)
		}
		if diff := cmp.Diff(map[string]int{"url": 1}, w.deliveries()); diff != "" {
			t.Errorf("counted (-want +got):\n%s", diff)
		}
		if !w.fetched() {
			t.Error("a URL that was handed out is no fetch")
		}

		got := w.open("GET", u)
		if got.status != http.StatusOK || got.body != content {
			t.Errorf("%d, %d bytes, want the %d that were uploaded", got.status, len(got.body), len(content))
		}
		want := map[string]string{
			"Content-Type": "text/html", "Content-Disposition": `attachment; filename="a.html"; filename*=UTF-8''a.html`,
		}
		for name, value := range want {
			if got.header.Get(name) != value {
				t.Errorf("%s: %q, want %q", name, got.header.Get(name), value)
			}
		}
		if !strings.HasPrefix(got.header.Get("Cache-Control"), "private") {
			t.Errorf("Cache-Control: %q", got.header.Get("Cache-Control"))
		}
		if part := w.open("GET", u, "Range", "bytes=10-19"); part.status != http.StatusPartialContent || part.body != content[10:20] {
			t.Errorf("a range: %d, %d bytes", part.status, len(part.body))
		}

		w.unstamp()
		if head := w.do("HEAD", f.path("content")+"?delivery=url", token, nil); head.status != http.StatusOK ||
			head.header.Get("Content-Type") != reply.header.Get("Content-Type") || w.fetched() {
			t.Errorf("HEAD: %d %v, stamped: %v", head.status, head.header, w.fetched())
		}
	})
}

func TestDeliveryIsTheOperatorsAndTheCallersChoice(t *testing.T) {
	t.Parallel()
	const ok, found, bad = http.StatusOK, http.StatusFound, http.StatusBadRequest
	for name, tc := range map[string]struct {
		mode func(*handlers.Config)
		want map[string]int // by method and query
	}{
		"proxy": {func(*handlers.Config) {}, map[string]int{
			"GET ": ok, "GET ?delivery=redirect": ok, "GET ?delivery=proxy": ok, "GET ?delivery=": ok,
			"GET ?delivery=Redirect": bad, "GET ?delivery=s3": bad, "HEAD ?delivery=redirect": ok, "HEAD ?delivery=s3": bad,
		}},
		"redirect for who asks": {redirecting(false), map[string]int{
			"GET ": ok, "GET ?delivery=redirect": found, "GET ?delivery=proxy": ok, "GET ?delivery=": ok,
			"GET ?delivery=s3": bad, "HEAD ": ok, "HEAD ?delivery=redirect": ok,
		}},
		"redirect for all": {redirecting(true), map[string]int{
			"GET ": found, "GET ?delivery=redirect": found, "GET ?delivery=proxy": ok, "GET ?delivery=": found,
			"GET ?delivery=s3": bad, "HEAD ": ok,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var below setup
			record(t, &below, "")
			w := newServerWith(t, below, tc.mode)
			ws, token := w.workspace("poll")
			f := w.mustUpload(ws, token, part{name: "a.txt", content: "hello"})[0]
			for request, status := range tc.want {
				method, query, _ := strings.Cut(request, " ")
				before := w.deliveries()
				w.unstamp()
				got := w.do(method, f.path("content")+query, token, nil)
				if got.status != status {
					t.Errorf("%s: %d, want %d: %s", request, got.status, status, got.body)
					continue
				}
				counted, how := w.deliveries(), ""
				switch {
				case method == http.MethodHead || status == bad:
				case status == found:
					how = "redirect"
					if got.body != "" || got.header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(got.header.Get("Location"), "http://"+publicS3+"/") {
						t.Errorf("%s: %q %v", request, got.body, got.header)
					}
				default:
					how = "proxy"
					if got.body != "hello" || got.header.Get("Location") != "" {
						t.Errorf("%s: %q %v", request, got.body, got.header)
					}
				}
				if how != "" {
					before[how]++
				}
				if diff := cmp.Diff(before, counted); diff != "" || w.fetched() != (how != "") {
					t.Errorf("%s: counted (-want +got):\n%s; stamped: %v", request, diff, w.fetched())
				}
				if status == bad && method == http.MethodGet {
					got.want(t, bad, "delivery must be url, redirect or proxy")
				}
			}
		})
	}
}

func TestInlineContentIsNeverRedirected(t *testing.T) {
	t.Parallel()
	w := newServer(t, inRows(t), redirecting(true))
	ws, token := w.workspace("poll")
	f := w.mustUpload(ws, token, part{name: "a", content: "hello"})[0]
	for _, query := range []string{"", "?delivery=redirect"} {
		if got := w.do("GET", f.path("content")+query, token, nil); got.status != http.StatusOK || got.body != "hello" {
			t.Errorf("%q: %d %q", query, got.status, got.body)
		}
	}
	if diff := cmp.Diff(map[string]int{"proxy": 2}, w.deliveries()); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
}

// What no redirect can carry is proxied: a URL that needs headers, and a row in its
// last second.
func TestWhatCannotBeRedirectedIsProxied(t *testing.T) {
	t.Parallel()
	var below setup
	record(t, &below, "")
	store := &faulty{}
	w := newServerWith(t, below, redirecting(true), func(cfg *handlers.Config) {
		store.Storage = cfg.Storage
		cfg.Storage = store
	})
	ws, token := w.workspace("poll")
	f := w.mustUpload(ws, token, part{name: "a", content: "hello"})[0]
	for name, tc := range map[string]struct {
		header http.Header
		err    error
		status int
	}{
		"a plain URL":            {nil, nil, http.StatusFound},
		"a URL that has headers": {http.Header{"X-Amz-Request-Payer": {"requester"}}, nil, http.StatusOK},
		"no URL":                 {nil, storage.ErrNoURL, http.StatusOK},
		"the last second":        {nil, storage.ErrNotFound, http.StatusOK},
	} {
		store.get = func(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (storage.Record, error) {
			rec, err := store.Storage.Get(ctx, ws, f)
			sign := rec.Content.Signer
			rec.Content.Signer = func(ctx context.Context, o storage.URLOptions) (storage.SignedURL, error) {
				signed, err := sign(ctx, o)
				signed.Header = tc.header
				if err == nil {
					err = tc.err
				}
				return signed, err
			}
			return rec, err
		}
		got := w.do("GET", f.path("content"), token, nil)
		if got.status != tc.status || (got.status == http.StatusOK) != (got.body == "hello") {
			t.Errorf("%s: %d %q", name, got.status, got.body)
		}
	}
	store.get = nil
	w.exec(`UPDATE pending_uploads SET expires_at = now()`)
	w.do("GET", f.path("content"), token, nil).want(t, 404, "pending upload not found, expired, or already acked")
}

// A URL ends with its row, whoever signs it, and there is none of a row that is
// about to end.
func TestURLEndsWithTheRow(t *testing.T) {
	t.Parallel()
	eachPlacement(t, func(t *testing.T, placement func(*testing.T) func(*handlers.Config)) {
		store := &faulty{}
		w := newServer(t, placement(t), func(cfg *handlers.Config) {
			store.Storage = cfg.Storage
			cfg.Storage = store
		})
		ws, token := w.workspace("poll")
		f := w.mustUpload(ws, token, part{name: "a", content: "hello"})[0]
		w.exec(`UPDATE pending_uploads SET expires_at = now() + interval '40 seconds'`)
		end := time.Now().Add(40 * time.Second)
		if u := w.contentURL(f, token); u.ExpiresAt.After(end) || u.ExpiresAt.Before(end.Add(-30*time.Second)) {
			t.Errorf("it ends %v after the row", u.ExpiresAt.Sub(end))
		}
		w.exec(`UPDATE pending_uploads SET expires_at = now()`)
		w.do("GET", f.path("content")+"?delivery=url", token, nil).want(t, 404, "pending upload not found, expired, or already acked")

		id, err := storage.ParseFileID(f.URI[len(f.URI)-36:])
		if err != nil {
			t.Fatal(err)
		}
		store.get = func(context.Context, storage.WorkspaceID, storage.FileID) (storage.Record, error) {
			return storage.Record{WorkspaceID: ws, FileID: id, ExpiresAt: time.Now().Add(500 * time.Millisecond)}, nil
		}
		w.do("GET", f.path("content")+"?delivery=url", token, nil).want(t, 404, "pending upload not found, expired, or already acked")
	})
}

func TestURLThatCannotBeMadeIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		failures int
		status   int
	}{"once": {1, 200}, "for ever": {1 << 30, 500}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &faulty{}
			w := newServer(t, redirecting(true), func(cfg *handlers.Config) {
				store.Storage = cfg.Storage
				cfg.Storage = store
				cfg.Timeouts.Open = 2 * time.Second
			})
			ws, token := w.workspace("poll")
			f := w.mustUpload(ws, token, part{name: "a", content: "hello"})[0]
			left, inner := tc.failures, store.Storage
			store.get = func(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (storage.Record, error) {
				rec, err := inner.Get(ctx, ws, f)
				sign := rec.Content.Signer
				rec.Content.Signer = func(ctx context.Context, o storage.URLOptions) (storage.SignedURL, error) {
					if left--; left >= 0 {
						return storage.SignedURL{}, errors.New("no credentials")
					}
					return sign(ctx, o)
				}
				return rec, err
			}
			got := w.do("GET", f.path("content")+"?delivery=url", token, nil)
			if got.status != tc.status {
				t.Fatalf("%d %s, want %d", got.status, got.body, tc.status)
			}
			if tc.status == 500 {
				got.want(t, 500, "storage error")
			}
			if w.fetched() != (tc.status == 200) {
				t.Errorf("stamped: %v", w.fetched())
			}
		})
	}
}

// The headers of what a URL answers, for names that are hard to carry. Stores
// refuse headers outside Latin-1, so the plain form is ASCII.
func TestNamesSurviveTheObjectStore(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	for _, name := range []string{
		"plain.txt", `it's "quoted".txt`, "Übergrößenträger.pdf", "報告書.pdf", "🎉 party 👩‍👩‍👧.png", "תמונה.jpg", ".hidden", "..two", "a;b=c, d.txt",
		"100% + %41.txt", strings.Repeat("n", storage.MaxFilenameBytes), strings.Repeat("語", storage.MaxFilenameBytes/3),
	} {
		rec, err := w.stageAs(ws, name)
		if err != nil {
			t.Fatal(err)
		}
		u := w.contentURL(staged{URI: rec.URI()}, token)
		got := w.open("GET", u)
		if got.status != http.StatusOK || got.body != "hello" {
			t.Errorf("%q: %d %.300s", name, got.status, got.body)
			continue
		}
		disposition := got.header.Get("Content-Disposition")
		kind, params, err := mime.ParseMediaType(disposition)
		if err != nil || kind != "attachment" || params["filename"] != name {
			t.Errorf("%q arrived as %q: %v", name, disposition, err)
		}
		if strings.ContainsFunc(disposition, func(r rune) bool { return r > '~' }) {
			t.Errorf("%q is not in ASCII: %q", name, disposition)
		}
	}
}

// stageAs stages a file of five bytes beside the service, under exactly that name.
func (w *world) stageAs(ws storage.WorkspaceID, name string) (storage.Record, error) {
	return w.store.Put(w.t.Context(), ws, storage.Upload{Filename: name, MIMEType: "text/plain", Body: strings.NewReader("hello")})
}

func TestContentRunsNothingOnTheServicesOrigin(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	f := w.mustUpload(ws, token, part{name: "a.html", mimeType: "text/html", content: "<script>alert(1)</script>"})[0]
	for _, headers := range [][]string{nil, {"Range", "bytes=0-7"}} {
		got := w.do("GET", f.path("content"), token, nil, headers...)
		if diff := cmp.Diff([]string{"default-src 'self'", "default-src 'none'; sandbox"}, got.header.Values("Content-Security-Policy")); diff != "" {
			t.Errorf("policies, of which a browser enforces each (-want +got):\n%s", diff)
		}
		if got.header.Get("X-Content-Type-Options") != "nosniff" || !strings.HasPrefix(got.header.Get("Content-Disposition"), "attachment;") {
			t.Errorf("headers %v", got.header)
		}
	}
}

func TestCorruptContentIsMarkedForTheAdministrator(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1000, 1 << 20} {
		w := newServer(t)
		ws, token := w.workspace("poll")
		f := w.mustUpload(ws, token, part{name: "a", content: pattern(size)}, part{name: "b", content: pattern(size)})[0]
		if n, err := w.uploads.CountCorrupt(t.Context()); err != nil || n != 0 {
			t.Errorf("%d marked before anything was read, %v", n, err)
		}
		w.corrupt(size)
		_, _ = w.try("GET", f.path("content"), token, nil)
		eventually(t, "the file is marked", func() bool {
			n, err := w.uploads.CountCorrupt(t.Context())
			return err == nil && n == 1
		})
	}
}

func TestRedirectsKeepAwayFromHostsThatGetTheToken(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		store, service string
		want           bool
	}{
		{"127.0.0.1", "127.0.0.1", true},
		{"S3.Example.com.", "s3.example.com", true},
		{"s3.example.com", "example.com", true},
		{"example.com", "s3.example.com", false},
		{"notexample.com", "example.com", false},
		{"s3.amazonaws.com", "uploads.example.com", false},
		{"s3.example.com", "", false},
	} {
		if got := handlers.SameSite(tc.store, tc.service); got != tc.want {
			t.Errorf("%q and %q: %v, want %v", tc.store, tc.service, got, tc.want)
		}
	}
}

// parseURL is url.Parse for addresses that are surely some.
func parseURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
