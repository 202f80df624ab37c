package handlers_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/storage"
)

func (w *world) send(ws storage.WorkspaceID, token string, body any, headers ...string) reply {
	w.t.Helper()
	return w.postJSON("/workspaces/"+ws.String()+"/a2a", token, body, headers...)
}

// stored is the one row of a workspace's feed.
func (w *world) stored(ws storage.WorkspaceID) (row struct {
	SourceID, TargetID, MessageID *string
	Type, Method, Summary, Status string
	Body                          map[string]any
}) {
	w.t.Helper()
	var body string
	err := w.pool.QueryRow(w.t.Context(), `
		SELECT source_id::text, target_id::text, message_id, activity_type, method, summary, status, request_body::text
		FROM activity_logs WHERE workspace_id = $1`, ws.String()).
		Scan(&row.SourceID, &row.TargetID, &row.MessageID, &row.Type, &row.Method, &row.Summary, &row.Status, &body)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(body), &row.Body); err != nil {
		w.t.Fatal(err)
	}
	return row
}

func TestCanvasMessageToAPollWorkspaceIsQueued(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, _ := w.workspace("poll")
	w.exec(`UPDATE workspaces SET url = 'http://127.0.0.1:1', name = 'NAME' WHERE id = $1`, ws.String())
	got := w.send(ws, adminToken, `{"method":"message/send","params":{"metadata":{"k":1,"source":"forged"},"message":{
		"role":"user","messageId":"m1","parts":[{"type":"text","text":"<hi> & bye"},
		{"kind":"file","type":"x","file":{"name":"a","mimeType":"text/plain","uri":"platform-pending:a/b","size":12345678901234567890}}]}}}`)
	if got.status != 200 || got.body != `{"status":"queued","delivery_mode":"poll","method":"message/send"}` {
		t.Fatalf("%d %s", got.status, got.body)
	}
	row := w.stored(ws)
	if row.SourceID != nil || *row.TargetID != ws.String() || row.Type != "a2a_receive" || row.Method != "message/send" || row.Summary != "message/send → NAME" || row.Status != "ok" || *row.MessageID != "m1" {
		t.Errorf("row %+v", row)
	}
	if id, _ := row.Body["id"].(string); len(id) != 36 {
		t.Errorf("id %v, want a UUID", row.Body["id"])
	}
	delete(row.Body, "id")
	want := map[string]any{
		"jsonrpc": "2.0", "method": "message/send",
		"params": map[string]any{
			"metadata": map[string]any{"k": 1.0, "source": "canvas_user", "user_identity_status": "UNAUTHENTICATED"},
			"message": map[string]any{
				"role": "user", "messageId": "m1", "contextId": ws.String(),
				"parts": []any{
					map[string]any{"kind": "text", "text": "<hi> & bye"},
					map[string]any{"kind": "file", "file": map[string]any{"name": "a", "mimeType": "text/plain", "uri": "platform-pending:a/b", "size": 12345678901234567890.0}},
				},
			},
		},
	}
	if diff := cmp.Diff(want, row.Body); diff != "" {
		t.Errorf("stored body (-want +got):\n%s", diff)
	}
	if n := w.count(`SELECT count(*) FROM activity_logs WHERE request_body::text LIKE '%12345678901234567890%'`); n != 1 {
		t.Error("a large number lost digits")
	}
}

func TestAgentMessageKeepsItsEnvelope(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	parent, token := w.workspace("poll")
	child, _ := w.workspace("poll")
	if _, err := w.workspaces.Reparent(t.Context(), child, &parent); err != nil {
		t.Fatal(err)
	}
	got := w.send(child, token, `{"jsonrpc":"2.0","id":42,"method":"message/send","params":{"message":{"content":"hello"}}}`, "X-Workspace-ID", strings.ToUpper(parent.String()))
	if got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	row := w.stored(child)
	params := row.Body["params"].(map[string]any)
	message := params["message"].(map[string]any)
	if *row.SourceID != parent.String() || row.Body["id"] != 42.0 || params["metadata"] != nil || message["contextId"] != nil || message["role"] != "user" {
		t.Errorf("row %+v", row)
	}
	if diff := cmp.Diff([]any{map[string]any{"kind": "text", "text": "hello"}}, message["parts"]); diff != "" || message["content"] != nil {
		t.Errorf("message %v", message)
	}
	if id, _ := message["messageId"].(string); len(id) != 36 || row.MessageID == nil || *row.MessageID != id {
		t.Errorf("message id %v, column %v, want the same UUID", message["messageId"], row.MessageID)
	}
}

func TestRepeatedMessageIDIsStoredOnce(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, _ := w.workspace("poll")
	body := `{"method":"message/send","params":{"message":{"messageId":"same","parts":[]}}}`
	first := w.send(ws, adminToken, body)
	seq := w.count(`SELECT max(seq) FROM activity_logs`)
	second := w.send(ws, adminToken, body)
	if first.status != 200 || first.body != second.body {
		t.Errorf("replies %d %s and %d %s", first.status, first.body, second.status, second.body)
	}
	if n := w.count(`SELECT count(*) FROM activity_logs`); n != 1 || w.count(`SELECT max(seq) FROM activity_logs`) != seq {
		t.Errorf("%d rows, want 1 with its seq", n)
	}
	other, _ := w.workspace("poll")
	if got := w.send(other, adminToken, body); got.status != 200 || w.count(`SELECT count(*) FROM activity_logs`) != 2 {
		t.Errorf("the same id in another workspace: %d %s", got.status, got.body)
	}
}

func TestA2AConditions(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	stranger, _ := w.workspace("poll")
	const message = `{"method":"message/send","params":{"message":{"parts":[]}}}`
	in := func(m string) string { return `{"method":"message/send","params":{"message":` + m + `}}` }
	hierarchy := "access denied: workspaces cannot communicate per hierarchy rules"
	tests := []struct {
		name, target, token, body string
		headers                   []string
		status                    int
		text                      string // "" for any
	}{
		{"no token", ws.String(), "", message, nil, 401, "missing caller auth token"},
		{"bad token", ws.String(), "x", message, nil, 401, "invalid caller auth token"},
		{"same origin is no credential", ws.String(), "", message, []string{"Origin", w.url, "Referer", w.url}, 401, "missing caller auth token"},
		{"prefix without credentials", ws.String(), "", message, []string{"X-Workspace-ID", "webhook:x"}, 403, "invalid caller ID"},
		{"prefix of admin", ws.String(), adminToken, message, []string{"X-Workspace-ID", "system:x"}, 403, "invalid caller ID"},
		{"claim contradicts token", ws.String(), token, message, []string{"X-Workspace-ID", stranger.String()}, 401, "caller ID does not match workspace auth token"},
		{"claim is garbage", ws.String(), token, message, []string{"X-Workspace-ID", "x"}, 401, "caller ID does not match workspace auth token"},
		{"admin's claim is garbage", ws.String(), adminToken, message, []string{"X-Workspace-ID", "x"}, 400, ""},
		{"unrelated", stranger.String(), token, message, nil, 403, hierarchy},
		{"unrelated before bad body", stranger.String(), token, `{`, nil, 403, hierarchy},
		{"unknown target of an agent", newWorkspaceID(t).String(), token, message, nil, 403, hierarchy},
		{"bad target of an agent", "x", token, message, nil, 403, hierarchy},
		{"unknown target", newWorkspaceID(t).String(), adminToken, message, nil, 404, "workspace not found"},
		{"bad body before unknown target", newWorkspaceID(t).String(), adminToken, `{`, nil, 400, "invalid A2A body"},
		{"bad target", "x", adminToken, message, nil, 400, "invalid workspace ID"},
		{"invalid JSON of an agent", ws.String(), token, `{`, nil, 400, "invalid JSON"},
		{"invalid JSON of the canvas", ws.String(), adminToken, `{`, nil, 400, "invalid A2A body"},
		{"empty", ws.String(), token, ``, nil, 400, "invalid JSON"},
		{"a list", ws.String(), token, `[]`, nil, 400, "invalid JSON"},
		{"two objects", ws.String(), token, message + message, nil, 400, "invalid JSON"},
		{"bad UTF-8", ws.String(), token, in(`{"parts":[{"kind":"text","text":"` + "\xff" + `"}]}`), nil, 400, "invalid JSON"},
		{"no method", ws.String(), token, `{"params":{}}`, nil, 400, "method must be a non-empty string"},
		{"method a number", ws.String(), token, `{"method":1}`, nil, 400, "method must be a non-empty string"},
		{"neither parts nor content", ws.String(), token, in(`{}`), nil, 400, "params.message needs parts or content"},
		{"content a number", ws.String(), token, in(`{"content":1}`), nil, 400, "params.message.content must be a string or a list"},
		{"parts an object", ws.String(), token, in(`{"parts":{}}`), nil, 400, "params.message.parts must be a list"},
		{"messageId a number", ws.String(), token, in(`{"messageId":1,"parts":[]}`), nil, 400, "params.message.messageId must be a string"},
		{"messageId too long", ws.String(), token, in(`{"messageId":"` + strings.Repeat("x", 513) + `","parts":[]}`), nil, 400, "params.message.messageId must not exceed 512 bytes"},
		{"NUL", ws.String(), token, in(`{"parts":[{"kind":"text","text":"\u0000"}]}`), nil, 400, "body holds text that cannot be stored, such as a NUL character"},
		{"a long number", ws.String(), token, `{"jsonrpc":"2.0","id":1e5000,` + in(`{"parts":[]}`)[1:], nil, 400, "body cannot be stored: a number has more than 512 digits without its exponent"},
		{"NUL in messageId", ws.String(), token, in(`{"messageId":"\u0000","parts":[]}`), nil, 400, "body holds text that cannot be stored, such as a NUL character"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := w.postJSON("/workspaces/"+test.target+"/a2a", test.token, test.body, test.headers...)
			if got.status != test.status || test.text != "" && got.errorText(t) != test.text {
				t.Errorf("%d %s, want %d %q", got.status, got.body, test.status, test.text)
			}
		})
	}
	if n := w.count(`SELECT count(*) FROM activity_logs`); n != 0 {
		t.Errorf("%d rows were stored", n)
	}
}

func TestA2AWithoutMessageObject(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	for _, body := range []string{`{"method":"tasks/get","params":{"id":"t"}}`, `{"method":"ping"}`, `{"method":"x","params":[1]}`, `{"method":"x","params":{"message":"text"}}`} {
		if got := w.send(ws, token, body); got.status != 200 {
			t.Errorf("%s: %d %s", body, got.status, got.body)
		}
	}
}

func TestA2ABodyCap(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	const capBytes = 16 << 20
	frame := `{"method":"message/send","params":{"message":{"parts":[{"kind":"text","text":""}]}}}`
	exact := strings.Replace(frame, `"text":""`, `"text":"`+strings.Repeat("x", capBytes-len(frame))+`"`, 1)
	if got := w.send(ws, token, exact); got.status != 200 {
		t.Errorf("exactly 16 MiB: %d %.200s", got.status, got.body)
	}
	for _, tok := range []string{token, "", "wrong"} { // the size comes before the token
		for _, length := range []string{"known", "unknown"} {
			var body io.Reader = strings.NewReader(exact + " ")
			if length == "unknown" {
				body = io.MultiReader(body)
			}
			got := w.do("POST", "/workspaces/"+ws.String()+"/a2a", tok, body)
			if got.status != 413 || !strings.Contains(got.body, `"max_bytes":16777216`) {
				t.Errorf("token %q, length %s: %d %s", tok, length, got.status, got.body)
			}
		}
	}
	// A sender that looks at the answer only when all is written gets it too.
	far := []byte(exact + exact)
	for _, tok := range []string{token, "wrong"} {
		for _, chunked := range []bool{false, true} {
			got := w.writeThenRead("/workspaces/"+ws.String()+"/a2a", tok, "application/json", far, chunked)
			if got.status != 413 || !strings.Contains(got.body, `"max_bytes":16777216`) {
				t.Errorf("32 MiB, token %q, chunked %v: %d %s", tok, chunked, got.status, got.body)
			}
		}
	}
}

func TestHierarchyDecidesWhoMayTalk(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	type member struct {
		id    storage.WorkspaceID
		token string
	}
	newMember := func(parent *storage.WorkspaceID) member {
		id, token := w.workspace("poll")
		if parent != nil {
			if _, err := w.workspaces.Reparent(t.Context(), id, parent); err != nil {
				t.Fatal(err)
			}
		}
		return member{id, token}
	}
	root := newMember(nil)
	a, b := newMember(&root.id), newMember(&root.id)
	leaf := newMember(&a.id)
	otherRoot := newMember(nil)
	tests := []struct {
		name     string
		from, to member
		ok       bool
	}{
		{"itself", a, a, true}, {"siblings", a, b, true}, {"parent", a, root, true}, {"child", root, a, true},
		{"ancestor", leaf, root, true}, {"descendant", root, leaf, true},
		{"uncle", leaf, b, false}, {"nephew", b, leaf, false}, {"two roots", root, otherRoot, false},
	}
	for _, test := range tests {
		got := w.send(test.to.id, test.from.token, `{"method":"message/send","params":{"message":{"parts":[]}}}`)
		if want := map[bool]int{true: 200, false: 403}[test.ok]; got.status != want {
			t.Errorf("%s: %d %s, want %d", test.name, got.status, got.body, want)
		}
	}
	if got := w.send(leaf.id, adminToken, `{"method":"message/send","params":{"message":{"parts":[]}}}`, "X-Workspace-ID", otherRoot.id.String()); got.status != 200 {
		t.Errorf("the canvas is exempt: %d %s", got.status, got.body)
	}
}

// A message whose target's mode cannot be read must not be taken for a push
// message: nothing is called, and the sender is told to try again.
func TestModeLookupFailureIs503AndNeverPush(t *testing.T) {
	t.Parallel()
	var hits atomic.Int32
	agent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	t.Cleanup(agent.Close)
	w := newServer(t, developmentMode)
	ws, token := w.workspace("push")
	w.exec(`UPDATE workspaces SET url = $2 WHERE id = $1`, ws.String(), agent.URL)
	w.exec(`ALTER TABLE workspaces RENAME COLUMN delivery_mode TO hidden`)
	for _, tok := range []string{adminToken, token} {
		got := w.send(ws, tok, `{"method":"message/send","params":{"message":{"parts":[]}}}`)
		if got.status != 503 || strings.Contains(got.body, "warming") {
			t.Errorf("%d %s, want 503 without warming", got.status, got.body)
		}
	}
	if n := hits.Load(); n != 0 || w.count(`SELECT count(*) FROM activity_logs`) != 0 {
		t.Errorf("the agent was called %d times", n)
	}
}

func TestPushMessageIsDispatchedAndRecorded(t *testing.T) {
	t.Parallel()
	var seen atomic.Pointer[http.Request]
	var sent atomic.Value
	agent := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		seen.Store(r)
		sent.Store(string(b))
		rw.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(rw, `{"jsonrpc":"2.0","id":1,"result":{"kind":"message","parts":[{"kind":"text","text":"pong"}]}}`)
	}))
	t.Cleanup(agent.Close)
	w := newServer(t, developmentMode)
	ws, token := w.workspace("") // NULL is push
	w.exec(`UPDATE workspaces SET url = $2 WHERE id = $1`, ws.String(), agent.URL+"/a2a")
	got := w.send(ws, token, `{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{"messageId":"m","parts":[{"type":"text","text":"ping"}]}}}`, "Cookie", "session=secret")
	if got.status != 200 || !strings.Contains(got.body, `"text":"pong"`) || got.header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s", got.status, got.body)
	}
	r := seen.Load()
	if r.URL.Path != "/a2a" || r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" {
		t.Errorf("the agent saw path %s and headers %v", r.URL.Path, r.Header)
	}
	if body := sent.Load().(string); !strings.Contains(body, `"kind":"text"`) || strings.Contains(body, `"type"`) {
		t.Errorf("the agent was sent %s", body)
	}
	if n := w.count(`SELECT count(*) FROM activity_logs WHERE status = 'ok' AND duration_ms > 0 AND request_body IS NOT NULL AND response_body->'result' IS NOT NULL AND source_id = $1`, ws.String()); n != 1 {
		t.Errorf("%d rows record the exchange, want 1", n)
	}
}

// One of the two bodies cannot be stored: the other one is, and the answer reaches
// the caller as it came.
func TestPushMessageIsRecordedWithWhatCanBeStored(t *testing.T) {
	t.Parallel()
	const good, bad = `{"a":1}`, `{"a":1e600}`
	for name, c := range map[string]struct{ request, response string }{
		"response": {good, bad}, "request": {bad, good}, "both": {bad, bad},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			agent := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(rw, c.response) }))
			t.Cleanup(agent.Close)
			w := newServer(t, developmentMode)
			ws, token := w.workspace("push")
			w.exec(`UPDATE workspaces SET url = $2 WHERE id = $1`, ws.String(), agent.URL)
			got := w.send(ws, token, `{"method":"message/send","params":{"message":{"parts":[]},"metadata":`+c.request+`}}`)
			if got.status != 200 || got.body != c.response {
				t.Fatalf("%d %s", got.status, got.body)
			}
			n := w.count(`SELECT count(*) FROM activity_logs WHERE (request_body IS NOT NULL) = $1 AND (response_body IS NOT NULL) = $2`, c.request == good, c.response == good)
			if n != 1 {
				t.Errorf("%d rows record the exchange, want 1", n)
			}
		})
	}
}

func TestPushMessageFailures(t *testing.T) {
	t.Parallel()
	agent := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect":
			rw.Header().Set("Location", "/ok")
			rw.WriteHeader(http.StatusFound)
		case "/broken":
			rw.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(rw, `{"oops":true}`)
		default:
			t.Errorf("the agent was asked for %s", r.URL.Path)
		}
	}))
	t.Cleanup(agent.Close)
	w := newServer(t, developmentMode)
	tests := []struct {
		name, url string
		status    int
		text      string
		rows      int
	}{
		{"no URL", "", 503, "workspace has no URL", 0},
		{"refused address", "http://169.254.169.254/", 502, "workspace URL is not publicly routable", 1},
		{"nobody there", "http://127.0.0.1:1/", 502, "workspace unreachable", 1},
		{"redirect", agent.URL + "/redirect", 502, "workspace answered with a redirect", 1},
		{"error of the agent", agent.URL + "/broken", 500, "", 1},
	}
	for _, test := range tests {
		ws, _ := w.workspace("push")
		w.exec(`UPDATE workspaces SET url = $2 WHERE id = $1`, ws.String(), test.url)
		got := w.send(ws, adminToken, `{"method":"message/send","params":{"message":{"parts":[]}}}`)
		if test.text == "" {
			if got.status != test.status || got.body != `{"oops":true}` {
				t.Errorf("%s: %d %s", test.name, got.status, got.body)
			}
		} else {
			got.want(t, test.status, test.text)
		}
		if n := w.count(`SELECT count(*) FROM activity_logs WHERE workspace_id = $1 AND status = 'error' AND error_detail <> ''`, ws.String()); n != test.rows {
			t.Errorf("%s: %d rows, want %d", test.name, n, test.rows)
		}
	}
}
