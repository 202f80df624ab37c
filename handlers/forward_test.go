package handlers_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/storage"
)

// receiver is a push-mode workspace on loopback.
type receiver struct {
	*httptest.Server
	last atomic.Pointer[received]
	hits atomic.Int32
}

type received struct {
	method, path, query string
	header              http.Header
	length              int64
	body                string
}

func newReceiver(t *testing.T, answer http.HandlerFunc) *receiver {
	t.Helper()
	rec := &receiver{}
	rec.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec.hits.Add(1)
		body, _ := io.ReadAll(r.Body)
		rec.last.Store(&received{r.Method, r.URL.Path, r.URL.RawQuery, r.Header, r.ContentLength, string(body)})
		answer(w, r)
	}))
	t.Cleanup(rec.Close)
	return rec
}

// push makes a push-mode workspace with that URL and a secret.
func (w *world) push(url string) (storage.WorkspaceID, string) {
	w.t.Helper()
	ws, token := w.workspace("push")
	w.exec(`UPDATE workspaces SET url = $2, platform_inbound_secret = 'inbound-secret' WHERE id = $1`, ws.String(), url)
	return ws, token
}

func TestPushUploadIsForwardedUnchanged(t *testing.T) {
	t.Parallel()
	rec := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-own; a=b")
		w.Header().Set("X-Internal", "hidden")
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"files": [ ]}`)
	})
	w := newServer(t, developmentMode)
	ws, token := w.push(rec.URL + "/base/")
	body, contentType := multipartBody(t, part{name: "a.txt", mimeType: "text/plain", content: "hello"})
	for _, chunked := range []bool{false, true} {
		var in io.Reader = bytes.NewReader(body)
		if chunked {
			in = io.MultiReader(in)
		}
		got := w.do("POST", uploadPath(ws), token, in, "Content-Type", contentType, "Cookie", "session=x", "X-Molecule-Org-Slug", "o")
		if got.status != http.StatusAccepted || got.body != `{"files": [ ]}` || got.header.Get("Content-Type") != "application/x-own; a=b" {
			t.Fatalf("%d %s %v", got.status, got.body, got.header)
		}
		if got.header.Get("X-Internal") != "" || got.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("headers of the reply: %v", got.header)
		}
		seen := rec.last.Load()
		if seen.method != "POST" || seen.path != "/base/internal/chat/uploads/ingest" || seen.body != string(body) || seen.header.Get("Content-Type") != contentType {
			t.Errorf("the workspace got %+v", seen)
		}
		if want := map[bool]int64{false: int64(len(body)), true: -1}[chunked]; seen.length != want {
			t.Errorf("Content-Length %d, want %d", seen.length, want)
		}
		if seen.header.Get("Authorization") != "Bearer inbound-secret" || seen.header.Get("Cookie") != "" || seen.header.Get("X-Molecule-Org-Slug") != "" {
			t.Errorf("headers of the forward: %v", seen.header)
		}
		for name, values := range seen.header {
			if strings.Contains(strings.Join(values, ","), token) {
				t.Errorf("the caller's token leaks in %s", name)
			}
		}
	}
	w.wantNothingStaged()
}

func TestForwardDoesNotFollowRedirects(t *testing.T) {
	t.Parallel()
	elsewhere := newReceiver(t, func(http.ResponseWriter, *http.Request) {})
	rec := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", elsewhere.URL)
		w.WriteHeader(http.StatusTemporaryRedirect)
		_, _ = io.WriteString(w, "moved")
	})
	w := newServer(t, developmentMode)
	ws, token := w.push(rec.URL)
	for _, got := range []reply{
		w.upload(ws, token, part{name: "a", content: "x"}),
		w.do("GET", "/workspaces/"+ws.String()+"/chat/download?path=/home/x", token, nil),
	} {
		if got.status != http.StatusTemporaryRedirect || got.body != "moved" || got.header.Get("Location") != "" {
			t.Errorf("%d %s %v, want the redirect without Location", got.status, got.body, got.header)
		}
	}
	if n := elsewhere.hits.Load(); n != 0 {
		t.Errorf("the redirect's target saw %d requests", n)
	}
}

func TestPushUploadRefusals(t *testing.T) {
	t.Parallel()
	rec := newReceiver(t, func(http.ResponseWriter, *http.Request) {})
	w := newServer(t, developmentMode)
	try := func(mode, url string) reply {
		ws, token := w.workspace(mode)
		w.exec(`UPDATE workspaces SET url = $2, platform_inbound_secret = 's' WHERE id = $1`, ws.String(), url)
		return w.upload(ws, token, part{name: "a", content: "x"})
	}
	try("push", "").want(t, 503, "workspace url not registered yet")
	got := try("", "")
	got.want(t, 422, "workspace has no callback URL — chat upload requires push-mode + public URL")
	if !strings.Contains(got.body, `"detail":"`) {
		t.Errorf("no detail: %s", got.body)
	}
	for _, url := range []string{"http://169.254.169.254", "http://[fe80::1]", "http://0.0.0.0", "ftp://127.0.0.1", "http://absent.invalid", "http://user:pw@127.0.0.1"} {
		try("push", url).want(t, 400, "workspace URL not allowed")
	}
	try("push", "http://127.0.0.1:1").want(t, 502, "workspace unreachable")
	if n := rec.hits.Load(); n != 0 {
		t.Errorf("%d calls", n)
	}
}

func TestPollUploadWithoutStagingIs422(t *testing.T) {
	t.Parallel()
	w := newServer(t, func(c *handlers.Config) { c.Storage = nil })
	ws, token := w.workspace("poll")
	w.upload(ws, token, part{name: "a", content: "x"}).
		want(t, 422, "workspace has no callback URL — chat upload requires push-mode + public URL")
}

func TestLoopbackIsRefusedOutsideDevelopmentMode(t *testing.T) {
	t.Parallel()
	rec := newReceiver(t, func(http.ResponseWriter, *http.Request) {})
	for _, mode := range []handlers.Addresses{{}, {SaaS: true}} {
		w := newServer(t, func(c *handlers.Config) { c.Addresses = mode })
		for _, url := range []string{rec.URL, strings.Replace(rec.URL, "127.0.0.1", "localhost", 1)} {
			ws, token := w.push(url)
			w.upload(ws, token, part{name: "a", content: "x"}).want(t, 400, "workspace URL not allowed")
			w.send(ws, token, `{"method":"x"}`).want(t, 502, "workspace URL is not publicly routable")
		}
	}
	if n := rec.hits.Load(); n != 0 {
		t.Errorf("loopback was called %d times", n)
	}
}

func TestMissingInboundSecretIsMintedOnDemand(t *testing.T) {
	t.Parallel()
	rec := newReceiver(t, func(http.ResponseWriter, *http.Request) {})
	w := newServer(t, developmentMode)
	ws, token := w.push(rec.URL)
	w.exec(`UPDATE workspaces SET platform_inbound_secret = NULL WHERE id = $1`, ws.String())
	got := w.upload(ws, token, part{name: "a", content: "x"})
	got.want(t, 503, "workspace re-registering — please retry in 30 seconds")
	if !strings.Contains(got.body, `"retry_after_seconds":30`) || !strings.Contains(got.body, `"detail":"`) || got.header.Get("Retry-After") != "30" {
		t.Errorf("%s, Retry-After %q", got.body, got.header.Get("Retry-After"))
	}
	if n := rec.hits.Load(); n != 0 {
		t.Errorf("%d calls before the workspace can know the secret", n)
	}
	if got := w.upload(ws, token, part{name: "a", content: "x"}); got.status != 200 {
		t.Errorf("retry: %d %s", got.status, got.body)
	}
	var beat struct {
		Secret string `json:"platform_inbound_secret"`
	}
	w.postJSON("/registry/heartbeat", token, `{"workspace_id":"`+ws.String()+`"}`).json(t, &beat)
	if auth := rec.last.Load().header.Get("Authorization"); auth != "Bearer "+beat.Secret || len(beat.Secret) != 43 {
		t.Errorf("forwarded with %q, the heartbeat says %q", auth, beat.Secret)
	}
}

func TestUnreadableInboundSecretIs503(t *testing.T) {
	t.Parallel()
	w := newServer(t, developmentMode)
	ws, token := w.push("http://127.0.0.1:1")
	w.exec(`ALTER TABLE workspaces RENAME COLUMN platform_inbound_secret TO hidden`)
	got := w.upload(ws, token, part{name: "a", content: "x"})
	got.want(t, 503, "workspace not yet enrolled in v2 upload (RFC #2312)")
	if !strings.Contains(got.body, `"detail":"`) {
		t.Errorf("no detail: %s", got.body)
	}
	w.do("GET", "/workspaces/"+ws.String()+"/chat/download?path=/home/x", token, nil).want(t, 503, "workspace not yet enrolled in v2 download (RFC #2312)")
}

func TestForwardedStreamIsCapped(t *testing.T) {
	t.Parallel()
	rec := newReceiver(t, func(http.ResponseWriter, *http.Request) {})
	w := newServer(t, developmentMode, func(c *handlers.Config) {
		c.Limits = storage.Limits{MaxFileBytes: 1 << 20, MaxRequestBytes: 2 << 20}
	})
	ws, token := w.push(rec.URL)
	body, contentType := multipartBody(t, part{name: "a", content: strings.Repeat("x", 3<<20)})
	got := w.do("POST", uploadPath(ws), token, io.MultiReader(bytes.NewReader(body)), "Content-Type", contentType)
	got.want(t, 502, "workspace unreachable")
	if last := rec.last.Load(); last != nil && len(last.body) > 2<<20 {
		t.Errorf("the workspace got %d bytes, want at most the cap", len(last.body))
	}
	if got := w.do("POST", uploadPath(ws), token, bytes.NewReader(body), "Content-Type", contentType); got.status != 413 {
		t.Errorf("known length above the cap: %d %s", got.status, got.body)
	}
}

func TestHalfAForwardedReplyIsNotAWhole(t *testing.T) {
	t.Parallel()
	rec := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", 100_000))
		panic(http.ErrAbortHandler)
	})
	w := newServer(t, developmentMode)
	ws, token := w.push(rec.URL)
	if got, err := w.try("GET", "/workspaces/"+ws.String()+"/chat/download?path=/home/x", token, nil); err == nil {
		t.Errorf("%d with %d bytes and no error", got.status, len(got.body))
	}
}

func TestForwardTimeout(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	rec := newReceiver(t, func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) }) // before the receiver closes
	w := newServer(t, developmentMode, func(c *handlers.Config) { c.ForwardTimeout = 200 * time.Millisecond })
	ws, token := w.push(rec.URL)
	w.upload(ws, token, part{name: "a", content: "x"}).want(t, 502, "workspace unreachable")
}

func TestChatDownload(t *testing.T) {
	t.Parallel()
	rec := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Disposition", `attachment; filename="a b"`)
		w.Header().Set("Set-Cookie", "x=y")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "nope")
	})
	w := newServer(t, developmentMode)
	ws, token := w.push(rec.URL)
	base := "/workspaces/" + ws.String() + "/chat/download"
	got := w.do("GET", base+"?path=/workspace/a%20b%26c", token, nil)
	if got.status != 404 || got.body != "nope" || got.header.Get("Content-Type") != "text/plain" ||
		got.header.Get("Content-Length") != "4" || got.header.Get("Content-Disposition") != `attachment; filename="a b"` || got.header.Get("Set-Cookie") != "" {
		t.Errorf("%d %s %v", got.status, got.body, got.header)
	}
	seen := rec.last.Load()
	if seen.path != "/internal/file/read" || seen.query != "path=%2Fworkspace%2Fa+b%26c" || seen.header.Get("Authorization") != "Bearer inbound-secret" {
		t.Errorf("the workspace got %+v", seen)
	}
	for query, text := range map[string]string{
		"": "path query required", "?path=": "path query required",
		"?path=home/x": "path must be absolute", `?path=C:\home`: "path must be absolute",
		"?path=/etc/passwd":          "path must be under /configs, /workspace, /home, or /plugins",
		"?path=/homework":            "path must be under /configs, /workspace, /home, or /plugins",
		"?path=/../home":             "path must be under /configs, /workspace, /home, or /plugins",
		"?path=/home/../etc/passwd":  "invalid path",
		"?path=/home/%2e%2e/etc":     "invalid path",
		"?path=/home/a..b":           "invalid path",
		`?path=/home/..\etc`:         "invalid path",
		"?path=/configs/a%00/../../": "invalid path",
	} {
		w.do("GET", base+strings.ReplaceAll(query, `\`, "%5C"), token, nil).want(t, 400, text)
	}
	poll, pollToken := w.workspace("poll")
	w.do("GET", "/workspaces/"+poll.String()+"/chat/download?path=/home/x", pollToken, nil).
		want(t, 422, "workspace has no callback URL — chat download requires push-mode + public URL")
	unregistered, unregisteredToken := w.workspace("push")
	w.do("GET", "/workspaces/"+unregistered.String()+"/chat/download?path=/home/x", unregisteredToken, nil).
		want(t, 503, "workspace url not registered yet")
	w.do("GET", "/workspaces/x/chat/download?path=/home/x", adminToken, nil).want(t, 400, "invalid workspace ID")
	w.do("GET", "/workspaces/"+newWorkspaceID(t).String()+"/chat/download?path=/home/x", adminToken, nil).want(t, 404, "workspace not found")
}
