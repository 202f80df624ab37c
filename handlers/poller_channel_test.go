package handlers_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// Numbers of the released channel client, contract 7.2.
const (
	channelPollTimeout  = 10 * time.Second
	channelFetchTimeout = 15 * time.Second // for the content and for the ack each
	channelFileCap      = 25 << 20
	channelMappings     = 32
)

// channelClient is a plain poller as contract 7.2 describes the TypeScript
// channel client.
type channelClient struct {
	w          *world
	ws         string
	token      string
	inbox      string
	cursorFile string
	agent      agent

	mu      sync.Mutex
	mapping map[string]string // URI → local path
	recent  []string          // its URIs, the least recently used first
	failed  int
}

func (w *world) channelClient(ws storage.WorkspaceID, token string) *channelClient {
	return &channelClient{
		w: w, ws: ws.String(), token: token, inbox: filepath.Join(w.t.TempDir(), "inbox"),
		cursorFile: filepath.Join(w.t.TempDir(), "cursor.json"), mapping: map[string]string{},
	}
}

func (c *channelClient) call(timeout time.Duration, method, path, body string) (status int, reply []byte, err error) {
	ctx, cancel := context.WithTimeout(c.w.t.Context(), timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.w.url+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Origin", c.w.url)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.w.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	reply, err = io.ReadAll(resp.Body)
	return resp.StatusCode, reply, err
}

// start probes the cursor, without which it refuses to run, and registers.
func (c *channelClient) start() {
	c.w.t.Helper()
	status, body, err := c.call(channelPollTimeout, http.MethodGet, "/workspaces/"+c.ws+"/activity?type=a2a_receive&since_id="+zeroUUID+"&limit=1", "")
	if err != nil || status != http.StatusGone || !strings.Contains(string(body), "since_id") {
		c.w.t.Fatalf("cursor probe: %d %s %v, want 410", status, body, err)
	}
	status, body, err = c.call(channelPollTimeout, http.MethodPost, "/registry/register",
		`{"id":"`+c.ws+`","agent_card":{"name":"channel"},"delivery_mode":"poll","mcp_server_present":true}`)
	if err != nil || status != http.StatusOK || !strings.Contains(string(body), `"status":"registered"`) || !strings.Contains(string(body), `"delivery_mode":"poll"`) {
		c.w.t.Fatalf("register: %d %s %v", status, body, err)
	}
}

// cursor is what cursor.json holds for the workspace.
func (c *channelClient) cursor() string {
	var all map[string]string
	if b, err := os.ReadFile(c.cursorFile); err == nil {
		if err := json.Unmarshal(b, &all); err != nil {
			c.w.t.Errorf("cursor.json: %v", err)
		}
	}
	return all[c.ws]
}

func (c *channelClient) saveCursor(id string) {
	b, err := json.Marshal(map[string]string{c.ws: id})
	if err == nil {
		err = os.WriteFile(c.cursorFile+".tmp", b, 0o600)
	}
	if err == nil {
		err = os.Rename(c.cursorFile+".tmp", c.cursorFile)
	}
	if err != nil {
		c.w.t.Errorf("save cursor: %v", err)
	}
}

// poll is one round. Rows are taken in the order they come in, which in the
// first window is newest first, and the last of them becomes the cursor. Rounds
// may overlap: each has read the cursor before the other moves it.
func (c *channelClient) poll() {
	c.mu.Lock()
	cursor := c.cursor()
	c.mu.Unlock()
	query := "?type=a2a_receive&limit=100&include=peer_info&since_secs=30"
	if cursor != "" {
		query = "?type=a2a_receive&limit=100&include=peer_info&since_id=" + cursor
	}
	status, body, err := c.call(channelPollTimeout, http.MethodGet, "/workspaces/"+c.ws+"/activity"+query, "")
	if err != nil || status != http.StatusOK {
		c.w.t.Errorf("channel poll: %d %s %v", status, body, err)
		return
	}
	var rows []feedRow
	if err := json.Unmarshal(body, &rows); err != nil {
		c.w.t.Errorf("channel poll: %v", err)
		return
	}
	for _, row := range rows {
		switch {
		case row.is("notify") && row.SourceID == nil:
		case row.SourceID != nil && *row.SourceID == c.ws:
		case row.is("chat_upload_receive"):
			c.fetch(row)
		default:
			c.mu.Lock()
			c.agent.receive(c.rewrite(row.RequestBody))
			c.mu.Unlock()
		}
		c.mu.Lock()
		c.saveCursor(row.ID)
		c.mu.Unlock()
	}
}

// fetch resolves one upload: content, file, ack, mapping, one after the other.
// Any status but 2xx is final for the file.
func (c *channelClient) fetch(row feedRow) {
	m, ok := row.manifest()
	if !ok {
		c.w.t.Errorf("manifest of row %s: %v", row.ID, row.RequestBody)
		return
	}
	route := "/workspaces/" + c.ws + "/pending-uploads/" + m.fileID
	status, content, err := c.call(channelFetchTimeout, http.MethodGet, route+"/content", "")
	if err != nil || status < 200 || status > 299 || len(content) > channelFileCap {
		c.mu.Lock()
		c.failed++
		c.mu.Unlock()
		return
	}
	path, err := writeUpload(c.inbox, channelName(m.name), content)
	if err != nil {
		c.w.t.Errorf("channel write: %v", err)
		return
	}
	if status, body, err := c.call(channelFetchTimeout, http.MethodPost, route+"/ack", "{}"); err != nil || status > 299 && status != http.StatusNotFound {
		c.w.t.Errorf("channel ack: %d %s %v", status, body, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// The key is made of its own id, not taken from the row.
	c.remember("platform-pending:"+c.ws+"/"+m.fileID, path)
}

// channelName is the client's own rule for names.
func channelName(name string) string {
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	name = storage.SanitizeFilename(name)
	for strings.Contains(name, "__") {
		name = strings.ReplaceAll(name, "__", "_")
	}
	if name == "" || name == "file" {
		return "upload.bin"
	}
	return name
}

// remember needs the lock.
func (c *channelClient) remember(uri, path string) {
	c.mapping[uri] = path
	c.recent = append(slices.DeleteFunc(c.recent, func(u string) bool { return u == uri }), uri)
	if len(c.recent) > channelMappings {
		delete(c.mapping, c.recent[0])
		c.recent = c.recent[1:]
	}
}

// rewrite replaces every string, wherever it is, that is a known URI as a whole.
func (c *channelClient) rewrite(v any) any {
	switch v := v.(type) {
	case string:
		if path, known := c.mapping[v]; known {
			return "workspace:" + path
		}
	case []any:
		for i := range v {
			v[i] = c.rewrite(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = c.rewrite(v[k])
		}
	}
	return v
}

// The first window comes newest first and is not reversed, so its message is
// handed on before its files are there. Its oldest row is the cursor, so the
// rows after it come again: their content is gone by then, the mapping is not,
// and the second copy of the message is whole.
func TestPollerOfTheChannelClient(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("push") // it registers itself as poll
	c := w.channelClient(ws, token)
	c.start()
	c.poll()
	uploaded := w.chat(ws, token, "m1", files("a")...)
	c.poll()
	copies := c.agent.copies(t, "m1")
	if len(copies) != 1 || !slices.Equal(copies[0], uris(uploaded)) {
		t.Fatalf("first window: %v, want the message with its URIs as they were", copies)
	}
	w.wantAllAcked()
	c.poll()
	copies = c.agent.copies(t, "m1")
	if len(copies) != 2 {
		t.Fatalf("%d copies, want the message again", len(copies))
	}
	wantLocal(t, "m1", copies[1], files("a"))
	if want := len(uploaded) - 1; c.failed != want {
		t.Errorf("%d fetches failed, want the %d that were asked for again after their ack", c.failed, want)
	}

	w.postJSON("/workspaces/"+ws.String()+"/notify", token, map[string]any{"message": "working on it"})
	w.chat(ws, token, "m2", files("b")...)
	c.poll()
	c.poll()
	copies = c.agent.copies(t, "m2")
	if len(copies) != 1 {
		t.Fatalf("%d copies of m2, want 1", len(copies))
	}
	wantLocal(t, "m2", copies[0], files("b"))
	if n := len(c.agent.messages); n != 3 {
		t.Errorf("%d messages, want 3 and no notify row", n)
	}
	status, body, err := c.call(channelPollTimeout, http.MethodPost, "/registry/heartbeat", `{"workspace_id":"`+ws.String()+`"}`)
	if err != nil || status != http.StatusOK || !strings.Contains(string(body), `"platform_inbound_secret":"`) {
		t.Errorf("heartbeat: %d %s %v", status, body, err)
	}
}

func uris(files []staged) []string {
	var out []string
	for _, f := range files {
		out = append(out, f.URI)
	}
	return out
}

// Overlapping rounds ask for the same rows and the same content; no message is
// lost and every file ends up acknowledged.
func TestChannelPollsMayOverlap(t *testing.T) {
	t.Parallel()
	option, waiting, release := stalled(t)
	w := newServer(t, option)
	ws, token := w.workspace("poll")
	c := w.channelClient(ws, token)
	c.start()
	anchor := w.append(ws, newAnchor())[0]
	c.saveCursor(anchor.ID.String())
	w.chat(ws, token, "m", files("a")...)
	var rounds sync.WaitGroup
	rounds.Go(c.poll)
	rounds.Go(c.poll)
	for range 2 {
		<-waiting // both are at the first file
	}
	release()
	rounds.Wait()
	copies := c.agent.copies(t, "m")
	if len(copies) != 2 {
		t.Fatalf("%d copies, want one of each round", len(copies))
	}
	wantLocal(t, "m", copies[1], files("a"))
	w.wantAllAcked()
}

// newAnchor is a row that both clients pass over.
func newAnchor() metadata.NewEntry { return metadata.NewEntry{Method: ptr("notify")} }
