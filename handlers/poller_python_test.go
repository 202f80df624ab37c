package handlers_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/storage"
)

// Numbers of the released Python runtime, contract 7.1.
const (
	pythonFetchers     = 4
	pythonFileCap      = 25 << 20
	pythonPollTimeout  = 10 * time.Second
	pythonFetchTimeout = 60 * time.Second
	pythonBatchTimeout = pythonFetchTimeout + 5*time.Second
)

// pythonPoller is a plain poller as contract 7.1 describes the Python runtime.
type pythonPoller struct {
	w          *world
	ws         string
	token      string
	origin     string // its platform URL, raw
	inbox      string // folder of the files
	cursorFile string
	agent      agent
	// deadline starts the time of a batch.
	deadline func(context.Context) (context.Context, context.CancelFunc)

	mu      sync.Mutex
	mapping map[string]string // manifest's URI → local path
	failed  int               // fetches that brought no file
	running sync.WaitGroup    // fetches, also those that a batch no longer waits for
	busy    atomic.Int32      // fetches at the moment
}

func (w *world) pythonPoller(ws storage.WorkspaceID, token string) *pythonPoller {
	p := &pythonPoller{
		w: w, ws: ws.String(), token: token, inbox: filepath.Join(w.t.TempDir(), "chat-uploads"),
		origin:     w.url + "/", // as it stands in PLATFORM_URL
		cursorFile: filepath.Join(w.t.TempDir(), ".mcp_inbox_cursor"), mapping: map[string]string{},
		deadline: func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, pythonBatchTimeout)
		},
	}
	w.t.Cleanup(p.running.Wait)
	return p
}

// call is a request with the headers of this client. Any status is a result.
func (p *pythonPoller) call(ctx context.Context, method, path string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, p.w.url+"/workspaces/"+p.ws+path, nil)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	req.Header.Set("Origin", p.origin)
	resp, err := p.w.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// poll is one round.
func (p *pythonPoller) poll() {
	ctx, cancel := context.WithTimeout(p.w.t.Context(), pythonPollTimeout)
	defer cancel()
	query := "?type=a2a_receive&since_secs=600"
	cursor, err := os.ReadFile(p.cursorFile)
	first := errors.Is(err, fs.ErrNotExist)
	if !first {
		query = "?type=a2a_receive&since_id=" + string(cursor)
	}
	status, body, err := p.call(ctx, http.MethodGet, "/activity"+query)
	switch {
	case err != nil || status >= 400 && status != http.StatusGone:
		p.w.t.Errorf("python poll: %d %s %v", status, body, err)
		return
	case status == http.StatusGone:
		_ = os.Remove(p.cursorFile) // the next round asks for the window
		return
	}
	var rows []feedRow
	if err := json.Unmarshal(body, &rows); err != nil {
		p.w.t.Errorf("python poll: not an array of rows: %v", err)
		return
	}
	if first {
		slices.Reverse(rows)
	}
	p.handle(rows)
}

// handle goes through a page, oldest first. Uploads are fetched beside each
// other and waited for before the first row that is none; the cursor is saved
// once, at the end.
func (p *pythonPoller) handle(rows []feedRow) {
	if len(rows) == 0 {
		return
	}
	var uploads []feedRow
	for _, row := range rows {
		switch {
		case row.is("notify") && row.SourceID == nil:
		case row.SourceID != nil && *row.SourceID == p.ws && !row.is("delegate_result"):
		case row.is("chat_upload_receive"):
			uploads = append(uploads, row)
		default:
			p.fetchAll(uploads)
			uploads = nil
			p.agent.receive(p.rewrite(row.RequestBody))
		}
	}
	p.fetchAll(uploads)
	if err := os.WriteFile(p.cursorFile+".tmp", []byte(rows[len(rows)-1].ID), 0o600); err != nil {
		p.w.t.Error(err)
	}
	if err := os.Rename(p.cursorFile+".tmp", p.cursorFile); err != nil {
		p.w.t.Error(err)
	}
}

// fetchAll drains a batch: four at a time, until all are there or its time is
// up. Then what waits is cancelled, what runs goes on, and nobody waits for it.
func (p *pythonPoller) fetchAll(rows []feedRow) {
	if len(rows) == 0 {
		return
	}
	deadline, cancel := p.deadline(p.w.t.Context())
	defer cancel()
	var batch sync.WaitGroup
	slots := make(chan struct{}, pythonFetchers)
	for _, row := range rows {
		batch.Add(1)
		p.running.Go(func() {
			defer batch.Done()
			select {
			case slots <- struct{}{}:
			case <-deadline.Done():
				return
			}
			defer func() { <-slots }()
			if deadline.Err() == nil {
				p.fetch(row)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		batch.Wait()
	}()
	select {
	case <-done:
	case <-deadline.Done():
	}
}

// fetch brings one upload into the inbox. Whatever is below 400 is taken for
// the file, and a fetch that failed is not tried again.
func (p *pythonPoller) fetch(row feedRow) {
	if n := p.busy.Add(1); n > pythonFetchers {
		p.w.t.Errorf("%d fetches at a time", n)
	}
	defer p.busy.Add(-1)
	m, ok := row.manifest()
	if !ok {
		p.w.t.Errorf("manifest of row %s: %v", row.ID, row.RequestBody)
		return
	}
	ctx, cancel := context.WithTimeout(p.w.t.Context(), pythonFetchTimeout)
	defer cancel()
	status, content, err := p.call(ctx, http.MethodGet, "/pending-uploads/"+m.fileID+"/content")
	if err != nil || status >= 400 || len(content) > pythonFileCap {
		p.mu.Lock()
		p.failed++
		p.mu.Unlock()
		return
	}
	path, err := writeUpload(p.inbox, storage.SanitizeFilename(m.name), content)
	if err != nil {
		p.w.t.Errorf("python write: %v", err)
		return
	}
	p.mu.Lock()
	p.mapping[m.uri] = path
	p.mu.Unlock()
	if status, body, err := p.call(ctx, http.MethodPost, "/pending-uploads/"+m.fileID+"/ack"); err != nil || status != http.StatusOK {
		p.w.t.Errorf("python ack: %d %s %v", status, body, err)
	}
}

// writeUpload writes NAME below dir with 32 hex digits before it, and nothing
// over a file or a link that is there.
func writeUpload(dir, name string, content []byte) (path string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", err
	}
	path = filepath.Join(dir, fmt.Sprintf("%x-%s", random, name))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	if _, err := f.Write(content); err != nil {
		return "", errors.Join(err, f.Close(), os.Remove(path))
	}
	return path, f.Close()
}

// rewrite replaces file.uri in params.message.parts, params.parts and parts. A
// URI that is not known stays.
func (p *pythonPoller) rewrite(body any) any {
	root, _ := body.(map[string]any)
	params, _ := root["params"].(map[string]any)
	message, _ := params["message"].(map[string]any)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, holder := range []map[string]any{message, params, root} {
		parts, _ := holder["parts"].([]any)
		for _, part := range parts {
			fields, _ := part.(map[string]any)
			file, _ := fields["file"].(map[string]any)
			uri, _ := file["uri"].(string)
			if path, known := p.mapping[uri]; known && strings.HasPrefix(uri, "platform-pending:") {
				file["uri"] = "workspace:" + path
			}
		}
	}
	return body
}

func TestPollerOfThePythonRuntime(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	p := w.pythonPoller(ws, token)
	p.poll() // an empty feed leaves no cursor
	w.chat(ws, token, "m1", files("a")...)
	w.chat(ws, token, "m2", files("b")...)
	p.poll() // the first window, newest first
	w.postJSON("/workspaces/"+ws.String()+"/notify", token, map[string]any{"message": "working on it"})
	w.send(ws, token, `{"method":"message/send","params":{"message":{"content":"an echo"}}}`)
	w.chat(ws, token, "m3", files("c")...)
	p.poll()
	p.poll()
	for _, m := range []struct{ id, seed string }{{"m1", "a"}, {"m2", "b"}, {"m3", "c"}} {
		copies := p.agent.copies(t, m.id)
		if len(copies) != 1 {
			t.Errorf("%d copies of message %s, want 1", len(copies), m.id)
			continue
		}
		wantLocal(t, m.id, copies[0], files(m.seed))
	}
	if n := len(p.agent.messages); n != 3 || p.failed != 0 {
		t.Errorf("%d messages, want 3: neither notify nor echo; %d fetches failed", n, p.failed)
	}
	w.wantAllAcked()
}

// A damaged cursor file heals by 410 and the window of 600 s. Files that were
// acknowledged are gone by then, and the messages come with what is known.
func TestPythonPollerHealsADamagedCursor(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	p := w.pythonPoller(ws, token)
	w.chat(ws, token, "m", files("a")...)
	p.poll()
	for _, damaged := range []string{"not-a-uuid", zeroUUID, newWorkspaceID(t).String()} {
		if err := os.WriteFile(p.cursorFile, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		before := len(p.agent.copies(t, "m"))
		p.poll()
		if _, err := os.Stat(p.cursorFile); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("cursor %q survived: %v", damaged, err)
		}
		p.poll()
		copies := p.agent.copies(t, "m")
		if len(copies) != before+1 {
			t.Errorf("cursor %q: %d copies more, want 1", damaged, len(copies)-before)
		}
		wantLocal(t, "m", copies[len(copies)-1], files("a"))
	}
	if p.failed != 3*len(files("a")) {
		t.Errorf("%d fetches failed, want all of three windows", p.failed)
	}
}

// Content that does not come in time holds up its batch until the deadline and
// nothing else: the message is handed on with the URIs as they were.
func TestPythonPollerGivesUpAtItsDeadline(t *testing.T) {
	t.Parallel()
	option, waiting, release := stalled(t)
	w := newServer(t, option)
	ws, token := w.workspace("poll")
	p := w.pythonPoller(ws, token)
	expired := make(chan struct{})
	p.deadline = func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(ctx)
		go func() {
			<-expired
			cancel()
		}()
		return ctx, cancel
	}
	uploaded := w.chat(ws, token, "m", files("a")...)
	polled := make(chan struct{})
	go func() {
		defer close(polled)
		p.poll()
	}()
	for range pythonFetchers {
		<-waiting // four at a time reach the server
	}
	close(expired)
	<-polled // although no content has come
	copies := p.agent.copies(t, "m")
	if len(copies) != 1 || len(copies[0]) != len(uploaded) {
		t.Fatalf("handed on %v, want the message once", copies)
	}
	for i, uri := range copies[0] {
		if uri != uploaded[i].URI {
			t.Errorf("URI %d is %s, want it as it was", i, uri)
		}
	}
	release()
	p.running.Wait()
	if n := len(waiting); n != 0 {
		t.Errorf("%d fetches began after the deadline", n)
	}
	if n := w.count("SELECT count(*) FROM pending_uploads WHERE acked_at IS NOT NULL"); n != pythonFetchers {
		t.Errorf("%d files acked, want the %d that were under way", n, pythonFetchers)
	}
}

// gatedGet is a Get that tells that it has been called and waits at the gate.
func gatedGet(store storage.Storage, gate <-chan struct{}, arrived chan<- struct{}) func(context.Context, storage.WorkspaceID, storage.FileID) (storage.Record, error) {
	return func(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (storage.Record, error) {
		arrived <- struct{}{}
		select {
		case <-gate:
			return store.Get(ctx, ws, f)
		case <-ctx.Done():
			return storage.Record{}, ctx.Err()
		}
	}
}
