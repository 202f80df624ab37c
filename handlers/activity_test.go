package handlers_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

const zeroUUID = "00000000-0000-0000-0000-000000000000"

// append writes feed entries.
func (w *world) append(ws storage.WorkspaceID, entries ...metadata.NewEntry) []metadata.Entry {
	w.t.Helper()
	for i := range entries {
		if entries[i].ActivityType == "" {
			entries[i].ActivityType = "a2a_receive"
		}
	}
	out, err := w.activity.Append(w.t.Context(), ws, entries...)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func summaries(rows []map[string]any) []string {
	var out []string
	for _, r := range rows {
		out = append(out, fmt.Sprint(r["summary"]))
	}
	return out
}

func ptr[T any](v T) *T { return &v }

func TestFeedQueryParameters(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	peer, _ := w.workspace("poll")
	var entries []metadata.NewEntry
	for i := range 3 {
		entries = append(entries, metadata.NewEntry{Summary: ptr(fmt.Sprint(i))})
	}
	entries = append(entries,
		metadata.NewEntry{Summary: ptr("agent"), SourceID: ptr(uuid.UUID(peer))},
		metadata.NewEntry{Summary: ptr("sent"), ActivityType: "a2a_send", TargetID: ptr(uuid.UUID(peer)), SourceID: ptr(uuid.UUID(ws))},
	)
	rows := w.append(ws, entries...)
	at := rows[0].CreatedAt.Add(time.Hour).UTC().Format(time.RFC3339Nano)
	before := rows[0].CreatedAt.UTC().Format(time.RFC3339Nano)
	for _, tc := range []struct {
		query string
		want  string // summaries, comma-separated
	}{
		{"", "sent,agent,2,1,0"},
		{"type=a2a_receive", "agent,2,1,0"},
		{"type=nothing", ""},
		{"type=a%00b%ff", ""},
		{"source=canvas", "2,1,0"},
		{"source=agent", "sent,agent"},
		{"source=", "sent,agent,2,1,0"},
		{"peer_id=" + peer.String(), "sent,agent"},
		{"peer_id=" + peer.String() + "&type=a2a_send", "sent"},
		{"limit=2", "sent,agent"},
		{"limit=0", "sent,agent,2,1,0"},
		{"limit=-1", "sent,agent,2,1,0"},
		{"limit=many", "sent,agent,2,1,0"},
		{"limit=100000", "sent,agent,2,1,0"},
		{"since_secs=600", "sent,agent,2,1,0"},
		{"since_secs=99999999999999999999999", "sent,agent,2,1,0"},
		{"before_ts=" + url.QueryEscape(at), "sent,agent,2,1,0"},
		{"before_ts=" + url.QueryEscape(before), ""},
		{"since_id=" + rows[1].ID.String(), "2,agent,sent"},
		{"since_id=" + rows[1].ID.String() + "&limit=1", "2"},
		{"since_id=" + rows[1].ID.String() + "&type=a2a_send", "sent"},
		{"since_id=" + rows[4].ID.String(), ""},
		{"include=unknown,%20peer_info%20,", "sent,agent,2,1,0"},
	} {
		got := w.feed(ws, token, "?"+tc.query)
		if s := strings.Join(summaries(got), ","); s != tc.want {
			t.Errorf("%s: %s, want %s", tc.query, s, tc.want)
		}
	}
	if got := w.do("GET", "/workspaces/"+ws.String()+"/activity?type=nothing", token, nil); got.body != "[]" {
		t.Errorf("an empty feed is %q", got.body)
	}
	for _, tc := range []struct {
		query  string
		status int
		text   string
	}{
		{"source=user", 400, "source must be 'canvas' or 'agent'"},
		{"peer_id=x", 400, "peer_id must be a UUID"},
		{"since_secs=0", 400, "since_secs must be a positive integer"},
		{"since_secs=-5", 400, "since_secs must be a positive integer"},
		{"since_secs=1.5", 400, "since_secs must be a positive integer"},
		{"since_secs=-99999999999999999999999", 400, "since_secs must be a positive integer"},
		{"before_ts=yesterday", 400, "before_ts must be an RFC3339 time"},
	} {
		w.do("GET", "/workspaces/"+ws.String()+"/activity?"+tc.query, token, nil).want(t, tc.status, tc.text)
	}
	w.do("GET", "/workspaces/x/activity", adminToken, nil).want(t, 400, "invalid workspace ID")
}

func TestForeignUnknownPrunedAndMalformedCursorsAre410(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	other, _ := w.workspace("poll")
	foreign := w.append(other, metadata.NewEntry{})[0].ID.String()
	pruned := w.append(ws, metadata.NewEntry{})[0].ID.String()
	w.exec(`DELETE FROM activity_logs WHERE id = $1`, pruned)
	for _, cursor := range []string{zeroUUID, uuid.NewString(), foreign, pruned, "damaged", "1%00", "%27"} {
		got := w.do("GET", "/workspaces/"+ws.String()+"/activity?type=a2a_receive&limit=1&since_id="+cursor, token, nil)
		got.want(t, http.StatusGone, "since_id cursor not found (row may have been pruned or belongs to a different workspace); omit since_id to reset")
	}
}

func TestRowsOfOneTransactionPageWithoutLoss(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	first := w.append(ws, metadata.NewEntry{Summary: ptr("start")})[0]
	var parts []part
	for i := range 7 {
		parts = append(parts, part{name: fmt.Sprint(i), content: "x"})
	}
	w.mustUpload(ws, token, parts...)
	var got []string
	cursor := first.ID.String()
	for {
		page := w.feed(ws, token, "?limit=2&since_id="+cursor)
		if len(page) == 0 {
			break
		}
		got = append(got, summaries(page)...)
		cursor = fmt.Sprint(page[len(page)-1]["id"])
	}
	var want []string
	for i := range 7 {
		want = append(want, fmt.Sprintf("chat_upload_receive: %d", i))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
}

func TestFeedRowsAreCompactAndHaveTheKeysOfTheContract(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	w.append(ws, metadata.NewEntry{
		Method: ptr("message/send"), Summary: ptr("a → b & <c>"),
		RequestBody:  json.RawMessage(`{ "a" : [ 1, 2 ], "mimeType" : "text/plain", "html": "<&>" }`),
		ResponseBody: json.RawMessage(`{"x": null}`), ToolTrace: json.RawMessage(`[ ]`), DurationMS: ptr(5), ErrorDetail: ptr("e"),
	})
	got := w.do("GET", "/workspaces/"+ws.String()+"/activity?include=peer_info", token, nil)
	var rows []struct {
		ID        string
		CreatedAt string `json:"created_at"`
	}
	got.json(t, &rows)
	want := `[{"id":"` + rows[0].ID + `","workspace_id":"` + ws.String() + `","activity_type":"a2a_receive","source_id":null,"target_id":null,` +
		`"method":"message/send","summary":"a → b & <c>","request_body":{"a":[1,2],"html":"<&>","mimeType":"text/plain"},"response_body":{"x":null},"tool_trace":[],` +
		`"duration_ms":5,"status":"ok","error_detail":"e","created_at":"` + rows[0].CreatedAt + `","seq":1}]`
	if got.body != want {
		t.Errorf("got\n%s\nwant\n%s", got.body, want)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000000Z07:00", rows[0].CreatedAt); err != nil {
		t.Errorf("created_at: %v", err)
	}
}

func TestPeerInfo(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	peer, _, err := w.workspaces.Create(t.Context(), metadata.NewWorkspace{Name: "Ada", Role: "analyst"}, "")
	if err != nil {
		t.Fatal(err)
	}
	w.append(ws, metadata.NewEntry{}, metadata.NewEntry{SourceID: ptr(uuid.UUID(peer.ID))})
	plain := w.feed(ws, token, "")[0]
	for _, key := range []string{"peer_name", "peer_role", "agent_card_url", "attachments"} {
		if _, there := plain[key]; there {
			t.Errorf("%s is there without include", key)
		}
	}
	rows := w.feed(ws, token, "?include=peer_info")
	if rows[0]["peer_name"] != "Ada" || rows[0]["peer_role"] != "analyst" || rows[0]["agent_card_url"] != w.url+"/registry/discover/"+peer.ID.String() {
		t.Errorf("row of a peer: %v", rows[0])
	}
	if _, there := rows[1]["agent_card_url"]; there {
		t.Errorf("row without source: %v", rows[1])
	}
	got := w.do("GET", "/workspaces/"+ws.String()+"/activity?include=peer_info&limit=1", token, nil,
		"X-Forwarded-Proto", "https", "X-Forwarded-Host", "agents.example, inner")
	if want := `"agent_card_url":"https://agents.example/registry/discover/` + peer.ID.String() + `"`; !strings.Contains(got.body, want) {
		t.Errorf("behind a proxy: %s lacks %s", got.body, want)
	}
}

func TestAttachmentsAreProjected(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	message := func(parts string) string { return `{"params":{"message":{"parts":[` + parts + `]}}}` }
	for _, tc := range []struct{ name, body, want string }{
		{"no body", ``, `null`},
		{"text only", message(`{"kind":"text","text":"x"}`), `null`},
		{"nested file", message(`{"kind":"file","file":{"uri":"workspace:/a","name":"a","mime_type":"text/plain"}}`), `[{"kind":"file","mime_type":"text/plain","name":"a","uri":"workspace:/a"}]`},
		{"fields of the part itself", message(`{"type":"image","uri":"https://x/y.png"}`), `[{"kind":"image","uri":"https://x/y.png"}]`},
		{"camel-case type is not read here", message(`{"kind":"audio","file":{"name":"n","mimeType":"audio/ogg"}}`), `[{"kind":"audio","name":"n"}]`},
		{"neither uri nor name", message(`{"kind":"file","file":{"mime_type":"text/plain"}}`), `null`},
		{"pending uploads are not projected", message(`{"kind":"file","file":{"uri":"platform-pending:a/b","name":"a"}},{"kind":"file","file":{"uri":"workspace:/b"}}`), `[{"kind":"file","uri":"workspace:/b"}]`},
		{"odd values", message(`7,null,{"kind":9},{"kind":"file","file":7,"name":"n"},{"kind":"video","file":{"uri":{},"name":"v"}}`), `[{"kind":"file","name":"n"},{"kind":"video","name":"v"}]`},
		{"flat manifest", `{"uri":"workspace:/a","mimeType":"image/png","name":"a.png"}`, `[{"kind":"image","mime_type":"image/png","name":"a.png","uri":"workspace:/a"}]`},
		{"flat manifest, snake case", `{"file_id":"f","mime_type":"audio/ogg","name":"a"}`, `[{"kind":"audio","mime_type":"audio/ogg","name":"a"}]`},
		{"flat manifest of a pending upload", `{"file_id":"f","uri":"platform-pending:a/b","name":"a"}`, `null`},
		{"neither", `{"name":"a"}`, `null`},
		{"not an object", `[1]`, `null`},
		{"params is text", `{"params":"x","uri":"workspace:/a"}`, `[{"kind":"file","uri":"workspace:/a"}]`},
	} {
		w.append(ws, metadata.NewEntry{RequestBody: json.RawMessage(tc.body)})
		row := w.feed(ws, token, "?limit=1&include=peer_info")[0]
		b, err := json.Marshal(row["attachments"])
		if err != nil {
			t.Fatal(err)
		}
		if string(b) != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, b, tc.want)
		}
	}
}

func TestActivityAck(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	path := "/workspaces/" + ws.String() + "/activity/ack"
	for range 8 {
		w.postJSON("/workspaces/"+ws.String()+"/activity", token, `{"activity_type":"error"}`)
	}
	for _, tc := range []struct{ body, want string }{
		{`{"acked_seq":7}`, `{"last_acked_seq":7}`},
		{`{"acked_seq":3}`, `{"last_acked_seq":7}`},
		{`{"acked_seq":0}`, `{"last_acked_seq":7}`},
		{`{"acked_seq":8,"more":true}`, `{"last_acked_seq":8}`},
		{`{"acked_seq":9}`, `{"last_acked_seq":8}`}, // no further than the feed goes
	} {
		if got := w.postJSON(path, token, tc.body); got.status != 200 || got.body != tc.want {
			t.Errorf("%s: %d %s, want %s", tc.body, got.status, got.body, tc.want)
		}
	}
	for _, body := range []string{``, `{}`, `null`, `{"acked_seq":null}`, `not json`, `{"acked_seq":"7"}`, `{"acked_seq":1.5}`, `[]`, `{"acked_seq":99999999999999999999}`, `{"acked_seq":1}{}`} {
		w.postJSON(path, token, body).want(t, 400, "acked_seq is required")
	}
	w.postJSON(path, token, `{"acked_seq":-1}`).want(t, 400, "acked_seq must be >= 0")
	w.postJSON(path, token, `{"acked_seq":1,"x":"`+strings.Repeat("x", 1<<20)+`"}`).want(t, 413, "request body too large")
	huge := w.writeThenRead(path, token, "application/json", []byte(strings.Repeat(" ", 3<<20)), true)
	if huge.status != 413 || huge.body != `{"error":"request body too large","max_bytes":1048576}` {
		t.Errorf("a body of 3 MiB: %d %s", huge.status, huge.body)
	}
	w.postJSON("/workspaces/"+newWorkspaceID(t).String()+"/activity/ack", adminToken, `{"acked_seq":1}`).want(t, 404, "workspace not found")
	w.pool.Close()
	w.postJSON(path, adminToken, `{"acked_seq":1}`).want(t, 500, "failed to record ack")
	w.do("GET", "/workspaces/"+ws.String()+"/activity", adminToken, nil).want(t, 500, "query failed")
}
