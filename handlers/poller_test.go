package handlers_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// feedRow is what both released clients read of a row.
type feedRow struct {
	ID          string         `json:"id"`
	Method      *string        `json:"method"`
	SourceID    *string        `json:"source_id"`
	RequestBody map[string]any `json:"request_body"`
}

func (r feedRow) is(method string) bool { return r.Method != nil && *r.Method == method }

// inbox is what the two clients have in common: a folder, a mapping
// from URIs to paths, and the messages handed to an agent.
type inbox struct {
	w     *world
	ws    storage.WorkspaceID
	token string
	dir   string

	mu        sync.Mutex
	paths     map[string]string // URI → local path
	gone      int               // files that were 404
	delivered []map[string]any  // request bodies of messages
	cursor    string
}

func (w *world) inbox(ws storage.WorkspaceID, token string) *inbox {
	return &inbox{w: w, ws: ws, token: token, dir: w.t.TempDir(), paths: map[string]string{}}
}

// rows polls; nil when the cursor is gone.
func (c *inbox) rows(query string) []feedRow {
	c.w.t.Helper()
	got := c.w.do("GET", "/workspaces/"+c.ws.String()+"/activity?"+query, c.token, nil, "Origin", c.w.url)
	if got.status == http.StatusGone {
		c.cursor = ""
		return nil
	}
	if got.status != http.StatusOK {
		c.w.t.Errorf("poll: %d %s", got.status, got.body)
		return nil
	}
	var rows []feedRow
	got.json(c.w.t, &rows)
	return rows
}

// fetch brings one upload into the inbox and acknowledges it, as contract 7.1
// and 7.2 agree to: any status below 400 is taken for the file.
func (c *inbox) fetch(row feedRow) {
	uri, _ := row.RequestBody["uri"].(string)
	id, _ := row.RequestBody["file_id"].(string)
	name, _ := row.RequestBody["name"].(string)
	base := "/workspaces/" + c.ws.String() + "/pending-uploads/" + id
	got, err := c.w.try("GET", base+"/content", c.token, nil, "Origin", c.w.url)
	if err != nil || got.status >= 400 {
		c.mu.Lock()
		c.gone++
		c.mu.Unlock()
		return
	}
	path := filepath.Join(c.dir, fmt.Sprintf("%x-%s", sha256.Sum256([]byte(row.ID)), name)[32:])
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		// A second look at the same row: the file is there already.
		return
	}
	if _, err := f.WriteString(got.body); err != nil {
		c.w.t.Errorf("write %s: %v", path, err)
	}
	if err := f.Close(); err != nil {
		c.w.t.Errorf("close %s: %v", path, err)
	}
	c.mu.Lock()
	c.paths[uri] = path
	c.mu.Unlock()
	if got, err := c.w.try("POST", base+"/ack", c.token, nil, "Origin", c.w.url); err != nil || got.status != 200 {
		c.w.t.Errorf("ack: %d %s %v", got.status, got.body, err)
	}
}

// local rewrites every string of v that is a known URI.
func (c *inbox) local(v any) any {
	switch v := v.(type) {
	case string:
		if path, ok := c.paths[v]; ok {
			return "workspace:" + path
		}
		return v
	case []any:
		for i := range v {
			v[i] = c.local(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = c.local(v[k])
		}
	}
	return v
}

// pollPython is one round of the Python runtime's poller (contract 7.1).
func (c *inbox) pollPython() {
	c.w.t.Helper()
	query := "type=a2a_receive"
	if c.cursor != "" {
		query += "&since_id=" + c.cursor
	} else {
		query += "&since_secs=600"
	}
	fresh := c.cursor == ""
	rows := c.rows(query)
	if fresh {
		slices.Reverse(rows)
	}
	var running sync.WaitGroup
	slots := make(chan struct{}, 4)
	defer running.Wait()
	for _, row := range rows {
		c.cursor = row.ID
		switch {
		case row.is("notify") && row.SourceID == nil:
		case row.SourceID != nil && *row.SourceID == c.ws.String():
		case row.is("chat_upload_receive"):
			running.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				c.fetch(row)
			})
		default:
			running.Wait() // the barrier: uploads first
			c.delivered = append(c.delivered, c.local(row.RequestBody).(map[string]any))
		}
	}
}

// pollChannel is one round of the channel client (contract 7.2): the first
// window is not reversed, so its oldest id becomes the cursor.
func (c *inbox) pollChannel() {
	c.w.t.Helper()
	query := "type=a2a_receive&limit=100&include=peer_info"
	if c.cursor != "" {
		query += "&since_id=" + c.cursor
	} else {
		query += "&since_secs=30"
	}
	for _, row := range c.rows(query) {
		c.cursor = row.ID
		switch {
		case row.is("chat_upload_receive"):
			c.fetch(row)
		case !row.is("notify"):
			c.delivered = append(c.delivered, c.local(row.RequestBody).(map[string]any))
		}
	}
}

// chat uploads files and posts the message that cites them, as the canvas does.
func (w *world) chat(ws storage.WorkspaceID, token, text string, files ...part) []staged {
	w.t.Helper()
	uploaded := w.mustUpload(ws, token, files...)
	parts := []any{map[string]any{"kind": "text", "text": text}}
	for _, f := range uploaded {
		parts = append(parts, map[string]any{"kind": "file", "file": map[string]any{"name": f.Name, "mimeType": f.MIMEType, "uri": f.URI, "size": f.Size}})
	}
	got := w.postJSON("/workspaces/"+ws.String()+"/a2a", adminToken, map[string]any{
		"method": "message/send",
		"params": map[string]any{"message": map[string]any{"role": "user", "messageId": text, "parts": parts}},
	})
	if got.status != 200 || !strings.Contains(got.body, `"status":"queued"`) {
		w.t.Fatalf("a2a: %d %s", got.status, got.body)
	}
	return uploaded
}

// wantDelivered checks that the message came with local files of the given
// content in place of its URIs.
func (c *inbox) wantDelivered(text string, files ...part) {
	c.w.t.Helper()
	for _, body := range c.delivered {
		raw, err := json.Marshal(body)
		if err != nil {
			c.w.t.Fatal(err)
		}
		var env struct {
			Params struct {
				Message struct {
					MessageID string
					Parts     []struct {
						Kind string
						File struct{ Name, URI string }
					}
				}
			}
		}
		if err := json.Unmarshal(raw, &env); err != nil {
			c.w.t.Fatal(err)
		}
		if env.Params.Message.MessageID != text || strings.Contains(string(raw), "platform-pending:") {
			continue
		}
		parts := env.Params.Message.Parts[1:]
		if len(parts) != len(files) {
			c.w.t.Errorf("message %s has %d files, want %d", text, len(parts), len(files))
			return
		}
		for i, p := range parts {
			got, err := os.ReadFile(strings.TrimPrefix(p.File.URI, "workspace:"))
			if err != nil || sha256Hex(got) != sha256Hex([]byte(files[i].content)) {
				c.w.t.Errorf("file %d of message %s: %v, %d bytes, want %d", i, text, err, len(got), len(files[i].content))
			}
		}
		return
	}
	c.w.t.Errorf("message %s was not delivered with local files", text)
}

func sha256Hex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// files are some of each size that matters: within one S3 part, and beyond it.
func files(seed string) []part {
	return []part{
		{name: seed + ".txt", mimeType: "text/plain", content: seed},
		{name: "photo " + seed + ".png", mimeType: "image/png", content: strings.Repeat(seed, 1<<18)},
		{name: "archive.zip", mimeType: "application/zip", content: strings.Repeat(seed+"|", 6<<19)},
		{name: "notes", content: "no type " + seed},
		{name: "more.bin", content: strings.Repeat("x"+seed, 1000)},
	}
}

func TestPollerOfThePythonRuntime(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	c := w.inbox(ws, token)
	w.chat(ws, token, "m1", files("a")...)
	w.chat(ws, token, "m2", files("b")...)
	c.pollPython() // the first window, newest first
	w.postJSON("/workspaces/"+ws.String()+"/notify", token, map[string]any{"message": "working on it"})
	w.chat(ws, token, "m3", files("c")...)
	c.pollPython()
	c.pollPython()
	for _, m := range []struct{ id, seed string }{{"m1", "a"}, {"m2", "b"}, {"m3", "c"}} {
		c.wantDelivered(m.id, files(m.seed)...)
	}
	if len(c.delivered) != 3 || c.gone != 0 {
		t.Errorf("%d messages, want 3 and no notify row; %d fetches failed", len(c.delivered), c.gone)
	}

	// A damaged cursor file heals by 410 and the 600 s window; files that were
	// acked are skipped, and the message comes with what is known.
	c.cursor = "not-a-uuid"
	c.pollPython()
	if c.cursor != "" {
		t.Fatalf("the cursor survived: %s", c.cursor)
	}
	before := len(c.delivered)
	c.pollPython()
	if len(c.delivered) != before+3 || c.gone != 15 {
		t.Errorf("%d messages again, want 3; %d files gone, want all 15", len(c.delivered)-before, c.gone)
	}
}

func TestPollerOfTheChannelClient(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("push") // it registers itself as poll
	c := w.inbox(ws, token)
	const zero = "00000000-0000-0000-0000-000000000000"
	probe := "/workspaces/" + ws.String() + "/activity?type=a2a_receive&since_id=" + zero + "&limit=1"
	if got := w.do("GET", probe, token, nil, "Origin", w.url); got.status != http.StatusGone || !strings.Contains(got.errorText(t), "since_id") {
		t.Fatalf("probe: %d %s", got.status, got.body)
	}
	got := w.postJSON("/registry/register", token, map[string]any{
		"id": ws.String(), "agent_card": map[string]any{"name": "channel"}, "delivery_mode": "poll", "url": "",
	}, "Origin", w.url)
	if got.status != 200 || !strings.Contains(got.body, `"delivery_mode":"poll"`) || strings.Contains(got.body, "auth_token") {
		t.Fatalf("register: %d %s", got.status, got.body)
	}
	c.pollChannel()
	w.chat(ws, token, "m1", files("a")...)
	c.pollChannel() // the message before its uploads; the oldest row is the cursor
	c.pollChannel() // so the others come again
	w.chat(ws, token, "m2", files("b")...)
	c.pollChannel()
	c.wantDelivered("m1", files("a")...)
	c.wantDelivered("m2", files("b")...)
	if got := w.postJSON("/registry/heartbeat", token, map[string]any{"workspace_id": ws.String()}); got.status != 200 || !strings.Contains(got.body, `"status":"ok"`) {
		t.Errorf("heartbeat: %d %s", got.status, got.body)
	}
}

func TestBothPollersOnOneFeed(t *testing.T) {
	t.Parallel()
	w := newServerWith(t, setup{rows: metadata.UploadsConfig{ReadAfterAck: true}})
	ws, token := w.workspace("poll")
	python, channel := w.inbox(ws, token), w.inbox(ws, token)
	for _, m := range []string{"m1", "m2"} {
		w.chat(ws, token, m, files(m)...)
		var both sync.WaitGroup
		both.Go(python.pollPython)
		both.Go(channel.pollChannel)
		both.Wait()
	}
	channel.pollChannel()
	for _, m := range []string{"m1", "m2"} {
		python.wantDelivered(m, files(m)...)
		channel.wantDelivered(m, files(m)...)
	}
	if n := w.count("SELECT count(*) FROM pending_uploads WHERE acked_at IS NULL"); n != 0 {
		t.Errorf("%d files are not acked", n)
	}
}
