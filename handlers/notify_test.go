package handlers_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNotify(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	path := "/workspaces/" + ws.String() + "/notify"
	long := strings.Repeat("ü", 81)
	if got := w.postJSON(path, token, map[string]any{"message": long}); got.status != 200 || got.body != `{"status":"sent"}` {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if got := w.postJSON(path, token, `{"message":"<b>","attachments":[{"uri":"workspace:/a","name":"n"},{"uri":"u","name":"m","mimeType":"text/plain","size":3}]}`); got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	rows := w.feed(ws, token, "?type=a2a_receive")
	if len(rows) != 2 {
		t.Fatalf("%d rows, want 2", len(rows))
	}
	files, text := rows[0], rows[1]
	if text["method"] != "notify" || text["source_id"] != nil || text["summary"] != "Agent message: "+strings.Repeat("ü", 80)+"…" {
		t.Errorf("row %v", text)
	}
	if diff := cmp.Diff(map[string]any{"result": long}, text["response_body"]); diff != "" {
		t.Errorf("response_body (-want +got):\n%s", diff)
	}
	want := map[string]any{"result": "<b>", "parts": []any{
		map[string]any{"kind": "file", "file": map[string]any{"uri": "workspace:/a", "name": "n"}},
		map[string]any{"kind": "file", "file": map[string]any{"uri": "u", "name": "m", "mimeType": "text/plain", "size": 3.0}},
	}}
	if diff := cmp.Diff(want, files["response_body"]); diff != "" || files["summary"] != "Agent message: <b>" {
		t.Errorf("row %v (-want +got):\n%s", files["summary"], diff)
	}

	for body, text := range map[string]string{
		`{}`: "message is required", `{"message":""}`: "message is required",
		`{"message":1}`: "invalid request body", `x`: "invalid request body", `{"message":"m","attachments":{}}`: "invalid request body",
		`{"message":"m","attachments":[{"uri":"u","name":"n"},{"uri":"u"}]}`: "attachment[1]: uri and name are required",
		`{"message":"\u0000"}`: "body holds text that cannot be stored, such as a NUL character",
	} {
		w.postJSON(path, token, body).want(t, 400, text)
	}
	w.postJSON("/workspaces/"+newWorkspaceID(t).String()+"/notify", adminToken, `{"message":"m"}`).want(t, 404, "workspace not found")
	w.postJSON("/workspaces/x/notify", adminToken, `{"message":"m"}`).want(t, 400, "invalid workspace ID")
	if n := w.count(`SELECT count(*) FROM activity_logs`); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
}

func TestPostActivity(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	other := newWorkspaceID(t)
	path := "/workspaces/" + ws.String() + "/activity"
	for _, body := range []string{
		`{"activity_type":"task_update","metadata":{"a": 1}}`,
		`{"activity_type":"a2a_send","source_id":"` + strings.ToUpper(ws.String()) + `","target_id":"` + other.String() + `","method":"m","summary":"s","status":"error","error_detail":"d","duration_ms":5,"request_body":[1],"response_body":"x","metadata":{"b":2}}`,
	} {
		if got := w.postJSON(path, token, body); got.status != 200 || got.body != `{"status":"logged"}` {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	rows := w.feed(ws, token, "")
	full, least := rows[0], rows[1]
	if least["source_id"] != ws.String() || least["status"] != "ok" || least["response_body"] != nil {
		t.Errorf("row %v, want the workspace as source", least)
	}
	if diff := cmp.Diff(map[string]any{"a": 1.0}, least["request_body"]); diff != "" {
		t.Errorf("metadata stands in for request_body:\n%s", diff)
	}
	if full["target_id"] != other.String() || full["status"] != "error" || full["duration_ms"] != 5.0 || full["response_body"] != "x" || full["error_detail"] != "d" {
		t.Errorf("row %v", full)
	}
	if diff := cmp.Diff([]any{1.0}, full["request_body"]); diff != "" {
		t.Errorf("request_body before metadata:\n%s", diff)
	}
	for body, want := range map[string]struct {
		status int
		text   string
	}{
		`{}`:                     {400, "activity_type must be one of a2a_send, a2a_receive, task_update, agent_log, skill_promotion, memory_write, error"},
		`{"activity_type":"no"}`: {400, "activity_type must be one of a2a_send, a2a_receive, task_update, agent_log, skill_promotion, memory_write, error"},
		`{"activity_type":1}`:    {400, "invalid request body"},
		`{`:                      {400, "invalid request body"},
		`{"activity_type":"error","duration_ms":"1"}`:                    {400, "invalid request body"},
		`{"activity_type":"error","duration_ms":99999999999}`:            {400, "invalid request body"},
		`{"activity_type":"error","target_id":"x"}`:                      {400, "target_id must be a UUID"},
		`{"activity_type":"error","source_id":"x"}`:                      {403, "source_id must match authenticated workspace"},
		`{"activity_type":"error","source_id":"` + other.String() + `"}`: {403, "source_id must match authenticated workspace"},
		`{"activity_type":"error","request_body":{"x":"\u0000"}}`:        {400, "body holds text that cannot be stored, such as a NUL character"},
		`{"activity_type":"error","request_body":[1e600]}`:               {400, "body cannot be stored: a number has more than 512 digits without its exponent"},
		`{"activity_type":"error","summary":"\u0000"}`:                   {400, "body holds text that cannot be stored, such as a NUL character"},
	} {
		w.postJSON(path, token, body).want(t, want.status, want.text)
	}
	w.postJSON("/workspaces/"+other.String()+"/activity", adminToken, `{"activity_type":"error"}`).want(t, 404, "workspace not found")
}

type history struct {
	Messages []struct {
		ID, Role, Content, Timestamp string
		Attachments                  []map[string]any
	}
	End bool `json:"reached_end"`
}

func TestChatHistory(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	path := "/workspaces/" + ws.String() + "/chat-history"
	read := func(query string) (h history) {
		got := w.do("GET", path+query, token, nil)
		if got.status != 200 {
			t.Fatalf("%s: %d %s", query, got.status, got.body)
		}
		got.json(t, &h)
		return h
	}
	if got := w.do("GET", path, token, nil); got.body != `{"messages":[],"reached_end":true}` {
		t.Errorf("empty: %s", got.body)
	}
	staged := w.mustUpload(ws, token, part{name: "a.txt", mimeType: "text/plain", content: "x"})
	w.send(ws, adminToken, `{"method":"message/send","params":{"message":{"parts":[{"kind":"text","text":"one"},{"kind":"file","file":{"uri":"`+staged[0].URI+`","name":"a.txt","mimeType":"text/plain","size":1}}]}}}`)
	w.postJSON("/workspaces/"+ws.String()+"/notify", token, `{"message":"two","attachments":[{"uri":"u","name":"n"}]}`)
	w.send(ws, token, `{"method":"message/send","params":{"message":{"content":"of an agent"}}}`)
	w.send(ws, adminToken, `{"method":"message/send","params":{"message":{"content":"three"}}}`)

	all := read("")
	var got []string
	for _, m := range all.Messages {
		got = append(got, m.Role+" "+m.Content)
		if !strings.HasSuffix(m.ID, ":"+m.Role) {
			t.Errorf("id %s of a message of %s", m.ID, m.Role)
		}
	}
	if diff := cmp.Diff([]string{"user one", "agent two", "user three"}, got); diff != "" || !all.End {
		t.Fatalf("history (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]map[string]any{{"uri": staged[0].URI, "name": "a.txt", "mimeType": "text/plain", "size": 1.0}}, all.Messages[0].Attachments); diff != "" {
		t.Errorf("attachments:\n%s", diff)
	}
	newest := read("?limit=2")
	if len(newest.Messages) != 2 || newest.End || newest.Messages[0].Content != "two" {
		t.Fatalf("newest two: %+v", newest)
	}
	older := read("?limit=2&before_ts=" + newest.Messages[0].Timestamp)
	if len(older.Messages) != 1 || !older.End || older.Messages[0].Content != "one" {
		t.Errorf("the rest: %+v", older)
	}
	w.do("GET", path+"?before_ts=yesterday", token, nil).want(t, 400, "before_ts must be an RFC3339 time")
}
