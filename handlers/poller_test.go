package handlers_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// feedRow is what both released clients read of a row.
type feedRow struct {
	ID          string  `json:"id"`
	Method      *string `json:"method"`
	SourceID    *string `json:"source_id"`
	RequestBody any     `json:"request_body"`
}

func (r feedRow) is(method string) bool { return r.Method != nil && *r.Method == method }

// manifest is the request body of an upload row.
type manifest struct{ fileID, name, uri string }

// manifest reads the row as both clients do: a row that lacks any of it cannot
// be fetched.
func (r feedRow) manifest() (m manifest, ok bool) {
	body, _ := r.RequestBody.(map[string]any)
	m.fileID, _ = body["file_id"].(string)
	m.name, _ = body["name"].(string)
	m.uri, _ = body["uri"].(string)
	return m, m.fileID != "" && m.name != "" && strings.HasPrefix(m.uri, "platform-pending:")
}

// agent is who a poller hands messages to.
type agent struct {
	mu       sync.Mutex
	messages []any // request bodies, in order of arrival
}

func (a *agent) receive(body any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.messages = append(a.messages, body)
}

// copies are the files' URIs in each copy of the message that arrived.
func (a *agent) copies(t *testing.T, messageID string) [][]string {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	var found [][]string
	for _, body := range a.messages {
		raw, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		var env struct {
			Params struct {
				Message struct {
					MessageID string `json:"messageId"`
					Parts     []struct {
						Kind string `json:"kind"`
						File struct {
							URI string `json:"uri"`
						} `json:"file"`
					} `json:"parts"`
				} `json:"message"`
			} `json:"params"`
		}
		if err := json.Unmarshal(raw, &env); err != nil {
			t.Fatal(err)
		}
		if env.Params.Message.MessageID != messageID {
			continue
		}
		uris := []string{}
		for _, p := range env.Params.Message.Parts {
			if p.Kind == "file" {
				uris = append(uris, p.File.URI)
			}
		}
		found = append(found, uris)
	}
	return found
}

// wantLocal fails unless the URIs are those of local files with that content.
func wantLocal(t *testing.T, message string, uris []string, files []part) {
	t.Helper()
	if len(uris) != len(files) {
		t.Errorf("message %s cites %d files, want %d: %v", message, len(uris), len(files), uris)
		return
	}
	for i, uri := range uris {
		path, ok := strings.CutPrefix(uri, "workspace:")
		if !ok {
			t.Errorf("file %d of message %s has no local URI: %s", i, message, uri)
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil || sha256Hex(got) != sha256Hex([]byte(files[i].content)) {
			t.Errorf("file %d of message %s: %v, %d bytes, want %d", i, message, err, len(got), len(files[i].content))
		}
	}
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

// chat uploads files and posts the message that cites them, as the canvas does.
func (w *world) chat(ws storage.WorkspaceID, token, messageID string, files ...part) []staged {
	w.t.Helper()
	uploaded := w.mustUpload(ws, token, files...)
	parts := []any{map[string]any{"kind": "text", "text": messageID}}
	for _, f := range uploaded {
		parts = append(parts, map[string]any{"kind": "file", "file": map[string]any{"name": f.Name, "mimeType": f.MIMEType, "uri": f.URI, "size": f.Size}})
	}
	got := w.postJSON("/workspaces/"+ws.String()+"/a2a", adminToken, map[string]any{
		"method": "message/send",
		"params": map[string]any{"message": map[string]any{"role": "user", "messageId": messageID, "parts": parts}},
	})
	if got.status != http.StatusOK || !strings.Contains(got.body, `"status":"queued"`) {
		w.t.Fatalf("a2a: %d %s", got.status, got.body)
	}
	return uploaded
}

func (w *world) wantAllAcked() {
	w.t.Helper()
	if n := w.count("SELECT count(*) FROM pending_uploads WHERE acked_at IS NULL"); n != 0 {
		w.t.Errorf("%d files are not acked", n)
	}
}

// Both poll the same feed at the same time. Either may acknowledge first, so
// the switch that keeps acked files readable is on; without it the slower one
// gets 404 and hands on the message with the URI as it was.
func TestBothPollersOnOneFeed(t *testing.T) {
	t.Parallel()
	w := newServerWith(t, setup{rows: metadata.UploadsConfig{ReadAfterAck: true}}, openRegistration)
	ws, token := w.workspace("poll")
	python, channel := w.pythonPoller(ws, token), w.channelClient(ws, token)
	channel.start()

	messages := []string{"first", "second", "third"}
	w.chat(ws, token, messages[0], files(messages[0])...)
	w.together(python.poll, channel.poll)
	channel.poll() // its first window again, see TestPollerOfTheChannelClient
	for _, m := range messages[1:] {
		w.chat(ws, token, m, files(m)...)
		w.together(python.poll, channel.poll, channel.poll) // the channel's polls overlap
	}
	w.together(python.poll, channel.poll) // what is left, if anything

	for _, m := range messages {
		copies := python.agent.copies(t, m)
		if len(copies) != 1 {
			t.Errorf("the Python poller handed on %d copies of message %s, want 1", len(copies), m)
			continue
		}
		wantLocal(t, m, copies[0], files(m))
	}
	for i, m := range messages {
		copies := channel.agent.copies(t, m)
		if i == 0 && len(copies) > 0 {
			copies = copies[1:] // the first window's, with its URIs as they were
		}
		if len(copies) == 0 {
			t.Errorf("the channel client did not hand on message %s", m)
		}
		for _, c := range copies {
			wantLocal(t, m, c, files(m))
		}
	}
	if python.failed != 0 || channel.failed != 0 {
		t.Errorf("fetches failed: %d of the Python poller's, %d of the channel client's", python.failed, channel.failed)
	}
	w.wantAllAcked()
}

// The seed's rule, which is the default: after the first ack the file is gone
// for the other client, which takes it for a soft failure and goes on.
func TestTheSlowerOfTwoPollersStillHandsOnTheMessage(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	quick, slow := w.pythonPoller(ws, token), w.pythonPoller(ws, token)
	uploaded := w.chat(ws, token, "m", files("a")...)
	quick.poll()
	slow.poll()
	wantLocal(t, "m", quick.agent.copies(t, "m")[0], files("a"))
	copies := slow.agent.copies(t, "m")
	if len(copies) != 1 || len(copies[0]) != len(uploaded) {
		t.Fatalf("the slower poller handed on %v", copies)
	}
	for i, uri := range copies[0] {
		if uri != uploaded[i].URI {
			t.Errorf("URI %d is %s, want it as it was: %s", i, uri, uploaded[i].URI)
		}
	}
	if slow.failed != len(uploaded) {
		t.Errorf("%d fetches failed, want %d", slow.failed, len(uploaded))
	}
}

// together runs polls side by side.
func (w *world) together(polls ...func()) {
	w.t.Helper()
	var running sync.WaitGroup
	for _, poll := range polls {
		running.Go(poll)
	}
	running.Wait()
}

// stalled makes fetches of content hang until release is called.
func stalled(t *testing.T) (option func(*handlers.Config), waiting <-chan struct{}, release func()) {
	t.Helper()
	gate, arrived := make(chan struct{}), make(chan struct{}, 64)
	release = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release)
	store := &faulty{}
	return func(cfg *handlers.Config) {
		store.Storage = cfg.Storage
		store.get = gatedGet(cfg.Storage, gate, arrived)
		cfg.Storage = store
	}, arrived, release
}
