package handlers_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// liveEvent is one event as a client gets it.
type liveEvent struct {
	Event       string         `json:"event"`
	WorkspaceID string         `json:"workspace_id"`
	Timestamp   time.Time      `json:"timestamp"`
	Payload     map[string]any `json:"payload"`
}

// listener is a client of live events, over either transport.
type listener struct {
	t      *testing.T
	events chan string
	socket *websocket.Conn // nil for server-sent events
}

func (w *world) dial(token string, options *websocket.DialOptions) (*websocket.Conn, *http.Response, error) {
	if options == nil {
		options = &websocket.DialOptions{Subprotocols: []string{"molecule-ws", "molecule-auth." + hex.EncodeToString([]byte(token))}}
	}
	options.HTTPClient = w.client
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	return websocket.Dial(ctx, w.url+"/ws", options) //nolint:bodyclose // the library's
}

func (w *world) listenSocket(token string) *listener {
	w.t.Helper()
	conn, _, err := w.dial(token, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	conn.SetReadLimit(-1)
	l := &listener{t: w.t, events: make(chan string, 100), socket: conn}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(l.events)
		for {
			_, b, err := conn.Read(w.t.Context())
			if err != nil {
				return
			}
			l.events <- string(b)
		}
	}()
	w.t.Cleanup(func() {
		_ = conn.CloseNow()
		<-done
	})
	return l
}

func (w *world) listenStream(ws storage.WorkspaceID, token string) *listener {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/workspaces/"+ws.String()+"/events/stream", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		w.t.Fatalf("stream: %d %v", resp.StatusCode, resp.Header)
	}
	l := &listener{t: w.t, events: make(chan string, 100)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(l.events)
		defer func() { _ = resp.Body.Close() }()
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				l.events <- data
			}
		}
	}()
	w.t.Cleanup(func() {
		cancel()
		<-done
	})
	return l
}

// next is the next event, with its text.
func (l *listener) next() (liveEvent, string) {
	l.t.Helper()
	select {
	case text, ok := <-l.events:
		if !ok {
			l.t.Fatal("the connection ended")
		}
		var e liveEvent
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			l.t.Fatalf("event %s: %v", text, err)
		}
		return e, text
	case <-time.After(20 * time.Second):
		l.t.Fatal("no event within 20 s")
	}
	panic("unreachable")
}

func (l *listener) wantNone() {
	l.t.Helper()
	select {
	case text, ok := <-l.events:
		l.t.Errorf("event %q (open %t), want none", text, ok)
	default:
	}
}

func (l *listener) wantEnd() {
	l.t.Helper()
	select {
	case text, ok := <-l.events:
		if ok {
			l.t.Errorf("event %s, want the end", text)
		}
	case <-time.After(20 * time.Second):
		l.t.Error("the connection did not end within 20 s")
	}
}

// each runs a test over both transports.
func eachTransport(t *testing.T, f func(t *testing.T, listen func(w *world, ws storage.WorkspaceID, token string) *listener)) {
	t.Parallel()
	t.Run("websocket", func(t *testing.T) {
		t.Parallel()
		f(t, func(w *world, _ storage.WorkspaceID, token string) *listener { return w.listenSocket(token) })
	})
	t.Run("stream", func(t *testing.T) {
		t.Parallel()
		f(t, func(w *world, ws storage.WorkspaceID, token string) *listener { return w.listenStream(ws, token) })
	})
}

func TestEventsOfAChat(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen func(*world, storage.WorkspaceID, string) *listener) {
		w := newServer(t)
		ws, token := w.workspace("poll")
		other, otherToken := w.workspace("poll")
		l := listen(w, ws, token)
		w.send(other, otherToken, `{"method":"message/send","params":{"message":{"parts":[]}}}`) // not for us

		w.send(ws, adminToken, `{"method":"message/send","params":{"message":{"messageId":"m","parts":[{"kind":"text","text":"hi"}]}}}`)
		e, text := l.next()
		if e.Event != "USER_MESSAGE" || e.WorkspaceID != ws.String() || e.Payload["message"] != "hi" || e.Payload["message_id"] != "m" || e.Timestamp.IsZero() {
			t.Errorf("event %s", text)
		}
		e, text = l.next()
		if e.Event != "ACTIVITY_LOGGED" || e.Payload["status"] != "ok" || e.Payload["method"] != "message/send" || strings.Contains(text, "duration_ms") {
			t.Errorf("event of the queued row: %s", text)
		}

		w.postJSON("/workspaces/"+ws.String()+"/notify", token, `{"message":"hello","attachments":[{"uri":"u","name":"n"}]}`)
		e, text = l.next()
		if diff := cmp.Diff([]any{map[string]any{"uri": "u", "name": "n"}}, e.Payload["attachments"]); e.Event != "AGENT_MESSAGE" || e.Payload["message"] != "hello" || diff != "" {
			t.Errorf("event %s", text)
		}
		if e, text = l.next(); e.Event != "ACTIVITY_LOGGED" || e.Payload["method"] != "notify" {
			t.Errorf("event %s", text)
		}

		w.postJSON("/workspaces/"+ws.String()+"/activity", token, `{"activity_type":"a2a_receive","duration_ms":12}`)
		if e, text = l.next(); e.Event != "ACTIVITY_LOGGED" || e.Payload["duration_ms"] != 12.0 {
			t.Errorf("event %s", text)
		}
		w.mustUpload(ws, token, part{name: "a.txt", mimeType: "text/plain", content: "x"})
		if e, text = l.next(); e.Event != "ACTIVITY_LOGGED" || e.Payload["method"] != "chat_upload_receive" || !strings.Contains(text, `"mimeType":"text/plain"`) {
			t.Errorf("event %s", text)
		}
		l.wantNone()
	})
}

// An event must never come before its row can be read. The writer is held up
// before its commit by the lock on the feed's head.
func TestEventsComeAfterTheCommit(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen func(*world, storage.WorkspaceID, string) *listener) {
		w := newServer(t)
		ws, token := w.workspace("poll")
		l := listen(w, ws, token)
		tx, err := w.pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(t.Context()) }()
		if _, err := tx.Exec(t.Context(), `SELECT FROM activity_feeds WHERE workspace_id = $1 FOR UPDATE`, ws.String()); err != nil {
			t.Fatal(err)
		}
		uploaded := make(chan reply, 1)
		go func() { uploaded <- w.upload(ws, token, part{name: "a", content: "x"}) }()
		eventually(t, "the upload waits for the feed", func() bool {
			return w.count(`SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) > 0
		})
		l.wantNone()
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		e, _ := l.next()
		if rows := w.feed(ws, token, ""); len(rows) != 1 || rows[0]["id"] != e.Payload["id"] {
			t.Errorf("the event's row %v is not in the feed: %v", e.Payload["id"], rows)
		}
		if got := <-uploaded; got.status != 200 {
			t.Errorf("upload: %d %s", got.status, got.body)
		}
		w.exec(`ALTER TABLE activity_logs ADD CONSTRAINT never CHECK (false) NOT VALID`)
		if got := w.upload(ws, token, part{name: "a", content: "x"}); got.status != 500 {
			t.Errorf("upload whose feed entry fails: %d %s", got.status, got.body)
		}
		l.wantNone()
	})
}

func TestAdministratorHearsEverybody(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	l := w.listenSocket(adminToken)
	for range 2 {
		ws, token := w.workspace("poll")
		w.postJSON("/workspaces/"+ws.String()+"/activity", token, `{"activity_type":"error"}`)
		if e, text := l.next(); e.WorkspaceID != ws.String() {
			t.Errorf("event %s", text)
		}
	}
}

func TestWebSocketHandshake(t *testing.T) {
	t.Parallel()
	w := newServer(t, func(c *handlers.Config) { c.CORSOrigins = []string{"http://canvas.test"} })
	_, token := w.workspace("poll")
	auth := "molecule-auth." + hex.EncodeToString([]byte(token))
	open := func() int { return w.gauge("molecule_websocket_connections_active") }

	for name, o := range map[string]*websocket.DialOptions{
		"token first":     {Subprotocols: []string{auth, "molecule-ws"}},
		"upper-case hex":  {Subprotocols: []string{"molecule-ws", "molecule-auth." + strings.ToUpper(hex.EncodeToString([]byte(token)))}},
		"bearer":          {Subprotocols: []string{"molecule-ws"}, HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}},
		"listed origin":   {Subprotocols: []string{"molecule-ws", auth}, HTTPHeader: http.Header{"Origin": {"http://canvas.test"}}},
		"server's origin": {Subprotocols: []string{"molecule-ws", auth}, HTTPHeader: http.Header{"Origin": {w.url}}},
	} {
		conn, resp, err := w.dial(token, o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := resp.Header.Get("Sec-WebSocket-Protocol"); got != "molecule-ws" {
			t.Errorf("%s: protocol %q, want molecule-ws echoed", name, got)
		}
		eventually(t, "the gauge counts the connection", func() bool { return open() == 1 })
		_ = conn.Close(websocket.StatusNormalClosure, "")
		eventually(t, "the gauge counts the close", func() bool { return open() == 0 })
	}
	for name, test := range map[string]struct {
		o      *websocket.DialOptions
		status int
	}{
		"no token":       {&websocket.DialOptions{Subprotocols: []string{"molecule-ws"}}, 401},
		"wrong token":    {&websocket.DialOptions{Subprotocols: []string{"molecule-ws", "molecule-auth.00"}}, 401},
		"no hex":         {&websocket.DialOptions{Subprotocols: []string{"molecule-ws", "molecule-auth." + token}}, 401},
		"foreign origin": {&websocket.DialOptions{Subprotocols: []string{"molecule-ws", auth}, HTTPHeader: http.Header{"Origin": {"http://evil.test"}}}, 403},
	} {
		conn, resp, err := w.dial(token, test.o)
		if err == nil {
			_ = conn.CloseNow()
		}
		if err == nil || resp == nil || resp.StatusCode != test.status {
			t.Errorf("%s: %v, %v, want %d", name, resp, err, test.status)
		}
	}
	w.do("GET", "/ws", token, nil).want(t, 426, "websocket upgrade required")
}

// gauge reads a series without labels from /metrics.
func (w *world) gauge(name string) int {
	w.t.Helper()
	for line := range strings.Lines(w.do("GET", "/metrics", "", nil).body) {
		var n int
		if rest, ok := strings.CutPrefix(line, name+" "); ok && json.Unmarshal([]byte(strings.TrimSpace(rest)), &n) == nil {
			return n
		}
	}
	w.t.Fatalf("no series %s", name)
	return 0
}

func TestDeletingAWorkspaceEndsItsStreams(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen func(*world, storage.WorkspaceID, string) *listener) {
		w := newServer(t)
		ws, token := w.workspace("poll")
		l := listen(w, ws, token)
		if got := w.do("DELETE", "/workspaces/"+ws.String(), adminToken, nil, "X-Confirm-Name", ws.String()); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
		l.wantEnd()
	})
}

func TestShutdownEndsStreams(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen func(*world, storage.WorkspaceID, string) *listener) {
		w := newServer(t)
		ws, token := w.workspace("poll")
		l := listen(w, ws, token)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := w.http.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		l.wantEnd()
	})
}

// A consumer that does not read must not hold up those who write, nor let its
// events pile up.
func TestSlowConsumerIsDropped(t *testing.T) {
	t.Parallel()
	var hub *handlers.Hub
	w := newServer(t, func(c *handlers.Config) { hub = c.Hub })
	ws, token := w.workspace("poll")
	conn, _, err := w.dial(token, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(-1)
	body, err := json.Marshal(strings.Repeat("x", 60_000))
	if err != nil {
		t.Fatal(err)
	}
	for range 2000 { // 120 MB: far more than queue and socket buffers hold
		hub.Publish([]metadata.Entry{{WorkspaceID: ws, ActivityType: "agent_log", RequestBody: body, Status: "ok"}})
	}
	read := 0
	for {
		if _, _, err = conn.Read(t.Context()); err != nil {
			break
		}
		read++
	}
	if websocket.CloseStatus(err) != websocket.StatusTryAgainLater || read >= 2000 {
		t.Errorf("after %d events: %v, want the connection closed with status 1013", read, err)
	}
}
