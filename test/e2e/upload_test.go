package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/internal/servertest"
	"github.com/molecule-ai/pendinguploads/storage"
)

// recorder is a proxy that notes what names uploads and messages, and refuses the
// first attempts.
type recorder struct {
	url string

	mu       sync.Mutex
	refuse   map[string]int // last element of the path: how many more
	keys     []string       // Idempotency-Key of each upload, in order
	messages []string       // messageId of each message, in order
}

func record(t *testing.T, server string) *recorder {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{refuse: map[string]int{}}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	through := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(target) },
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if !r.pass(t, request) {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"error":"busy"}`)
			return
		}
		through.ServeHTTP(w, request)
	}))
	t.Cleanup(front.Close)
	r.url = front.URL
	return r
}

func (r *recorder) pass(t *testing.T, request *http.Request) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	what := filepath.Base(request.URL.Path)
	switch {
	case request.Method != http.MethodPost:
		return true
	case what == "uploads":
		r.keys = append(r.keys, request.Header.Get("Idempotency-Key"))
	case what == "a2a":
		body, err := io.ReadAll(request.Body)
		if err != nil {
			t.Error(err)
		}
		request.Body = io.NopCloser(bytes.NewReader(body))
		var m struct {
			Params struct{ Message struct{ MessageID string } }
		}
		if err := json.Unmarshal(body, &m); err != nil {
			t.Error(err)
		}
		r.messages = append(r.messages, m.Params.Message.MessageID)
	}
	if r.refuse[what] > 0 {
		r.refuse[what]--
		return false
	}
	return true
}

// take returns what was noted since the last call.
func (r *recorder) take() (keys, messages []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys, messages = r.keys, r.messages
	r.keys, r.messages = nil, nil
	return keys, messages
}

// One invocation of `upload` has one name for each of its requests, which stays the
// same when a request is repeated; the next invocation has others.
func TestRepetitionsHaveTheSameIdempotencyKey(t *testing.T) {
	t.Parallel()
	stack := servertest.NewStack(t)
	server := stack.Serve(t)
	id, _ := stack.Workspace(t, "laptop")
	proxy := record(t, server.URL)
	dir := t.TempDir()
	const files = storage.MaxFilesPerBatch + 1 // two requests
	for n := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%03d.txt", n)), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	upload := func(refuse int, flags ...string) (keys, messages []string) {
		t.Helper()
		proxy.mu.Lock()
		proxy.refuse = map[string]int{"uploads": refuse, "a2a": refuse}
		proxy.mu.Unlock()
		cmd := exec.CommandContext(t.Context(), servertest.Binary(t), append([]string{"upload", "-r", dir, "--message", "look"}, flags...)...)
		home := t.TempDir()
		cmd.Env = []string{
			"HOME=" + home, "XDG_CONFIG_HOME=" + home, "PENDINGUPLOADS_SERVER=" + proxy.url,
			"PENDINGUPLOADS_WORKSPACE=" + id.String(), "PENDINGUPLOADS_TOKEN=" + servertest.AdminToken,
		}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("upload: %v\n%s", err, stderr.String())
		}
		if n := strings.Count(string(out), "\n"); n != files {
			t.Fatalf("upload printed %d lines, want %d URIs", n, files)
		}
		return proxy.take()
	}

	keys, messages := upload(1)
	if len(keys) != 3 || keys[0] == "" || keys[0] != keys[1] || keys[2] == "" || keys[2] == keys[0] {
		t.Errorf("got keys %q, want that of the first request twice, then that of the second", keys)
	}
	if len(messages) != 2 || messages[0] == "" || messages[0] != messages[1] {
		t.Errorf("got message ids %q, want one twice", messages)
	}
	others, otherMessages := upload(0)
	if len(others) != 2 || slices.ContainsFunc(others, func(k string) bool { return k == "" || slices.Contains(keys, k) }) {
		t.Errorf("the next invocation has keys %q, want two others than %q", others, keys)
	}
	if len(otherMessages) != 1 || slices.Contains(messages, otherMessages[0]) {
		t.Errorf("the next invocation has message ids %q, want another than %q", otherMessages, messages)
	}
	// An invocation that is repeated by whoever made it can be given its name.
	named, namedMessages := upload(0, "--idempotency-key", "release-7")
	again, againMessages := upload(0, "--idempotency-key", "release-7")
	if diff := cmp.Diff(named, again) + cmp.Diff(namedMessages, againMessages); diff != "" {
		t.Errorf("the same name gives other keys (-first +second):\n%s", diff)
	}
	if got := len(openRows(t, stack.Database).messages(t, id)); got != 3 {
		t.Errorf("the feed has %d messages of three names, want 3", got)
	}
}
