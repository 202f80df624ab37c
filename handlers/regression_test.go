package handlers_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/storage"
)

// What must not regress, contract section 11, one test a sentence where no
// other test says it. docs/contract-tests.md has the whole list.

func TestUploadRowsAreA2AReceive(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	w.mustUpload(ws, token, part{name: "a", content: "x"}, part{name: "b", content: "y"})
	rows := w.feed(ws, token, "?type=a2a_receive") // what every poller asks for
	if len(rows) != 2 {
		t.Fatalf("%d rows, want one a file", len(rows))
	}
	for _, row := range rows {
		if row["activity_type"] != "a2a_receive" || row["method"] != "chat_upload_receive" || row["source_id"] != nil {
			t.Errorf("row %v", row)
		}
	}
	if rows := w.feed(ws, token, "?type=chat_upload_receive"); len(rows) != 0 {
		t.Errorf("%d rows of a type that nobody polls", len(rows))
	}
}

func TestEmptyURLIs422WithoutAModeAnd503ForPushWithTextsOfTheirOwn(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	w.exec(`ALTER TABLE workspaces ALTER COLUMN delivery_mode DROP NOT NULL`)
	w.exec(`ALTER TABLE workspaces DROP CONSTRAINT workspaces_delivery_mode_check`)
	texts := map[string]int{}
	for _, tc := range []struct {
		mode   *string
		status int
	}{{nil, 422}, {ptr(""), 422}, {ptr("push"), 503}} {
		ws, token := w.workspace("push")
		w.exec(`UPDATE workspaces SET delivery_mode = $2, url = '' WHERE id = $1`, ws.String(), tc.mode)
		for path, method := range map[string]string{"/chat/uploads": "POST", "/chat/download?path=/home/x": "GET"} {
			got := w.do(method, "/workspaces/"+ws.String()+path, token, nil)
			if got.status != tc.status {
				t.Errorf("mode %v, %s: %d %s, want %d", tc.mode, path, got.status, got.body, tc.status)
			}
			if before, seen := texts[got.errorText(t)]; seen && before != got.status {
				t.Errorf("one text for two statuses: %s", got.body)
			}
			texts[got.errorText(t)] = got.status
		}
	}
}

func TestRetriedUploadLeavesNoDuplicatesAndNoOrphans(t *testing.T) {
	t.Parallel()
	f, calls := &faulty{}, atomic.Int32{}
	f.putBatch = func(ctx context.Context, ws storage.WorkspaceID, b storage.Batch) ([]storage.Record, error) {
		if calls.Add(1) == 2 {
			return nil, errors.New("no")
		}
		return f.Storage.PutBatch(ctx, ws, b)
	}
	w := newServer(t, wrapped(f))
	ws, token := w.workspace("poll")
	// The first attempt is staged in part and then fails at its feed rows.
	w.exec(`ALTER TABLE activity_logs RENAME TO hidden`)
	parts := []part{{name: "a", content: "x"}, {name: "b", content: strings.Repeat("y", 6<<20)}}
	if got := w.upload(ws, token, parts...); got.status != 500 {
		t.Fatalf("%d %s, want 500", got.status, got.body)
	}
	w.exec(`ALTER TABLE hidden RENAME TO activity_logs`)
	w.wantNothingStaged()
	// The second fails before the store has seen anything.
	w.upload(ws, token, parts...).want(t, 500, "could not stage files")
	w.mustUpload(ws, token, parts...)
	for table, want := range map[string]int{"pending_uploads": 2, "activity_logs": 2} {
		if n := w.count(`SELECT count(*) FROM ` + table); n != want {
			t.Errorf("%d rows of %s, want %d", n, table, want)
		}
	}
	if keys := w.objectKeys(); len(keys) != 2 {
		t.Errorf("objects %v, want one a file", keys)
	}
}

func TestSeqIsInFeedReplies(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	w.mustUpload(ws, token, part{name: "a", content: "x"}, part{name: "b", content: "y"})
	w.send(ws, adminToken, `{"method":"message/send","params":{"message":{"content":"hi"}}}`)
	var got []any
	for _, row := range w.feed(ws, token, "") {
		got = append(got, row["seq"])
	}
	if diff := cmp.Diff([]any{3.0, 2.0, 1.0}, got); diff != "" {
		t.Errorf("seq, newest first (-want +got):\n%s", diff)
	}
}

func TestFirstAckTimeNeverMoves(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	f := w.mustUpload(ws, token, part{name: "a", content: "x"})[0]
	var times [2]time.Time
	for i := range times {
		if got := w.do("POST", f.path("ack"), token, nil); got.body != `{"acked":true}` {
			t.Fatalf("ack %d: %d %s", i, got.status, got.body)
		}
		if err := w.pool.QueryRow(t.Context(), `SELECT acked_at FROM pending_uploads`).Scan(&times[i]); err != nil {
			t.Fatal(err)
		}
	}
	if !times[0].Equal(times[1]) {
		t.Errorf("acked at %v, then at %v", times[0], times[1])
	}
}

// The sender hears 200 only once the row is committed: while it waits for its
// place in the feed there is no reply, and a commit that fails is no 200.
func TestQueuedMessageIsDurableBeforeThe200(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	const message = `{"method":"message/send","params":{"message":{"messageId":"m","content":"hi"}}}`
	tx, err := w.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), `SELECT FROM activity_feeds WHERE workspace_id = $1 FOR UPDATE`, ws.String()); err != nil {
		t.Fatal(err)
	}
	replied := make(chan reply, 1)
	go func() {
		got, err := w.try("POST", "/workspaces/"+ws.String()+"/a2a", adminToken, strings.NewReader(message))
		if err != nil {
			t.Errorf("a2a: %v", err)
		}
		replied <- got
	}()
	eventually(t, "the message waits for the feed", func() bool {
		return w.count(`SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) > 0
	})
	select {
	case got := <-replied:
		t.Fatalf("%d %s before the row", got.status, got.body)
	default:
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-replied; got.status != http.StatusOK || len(w.feed(ws, token, "")) != 1 {
		t.Errorf("%d %s, and the row is not there", got.status, got.body)
	}

	w.exec(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no commit'; END $$`)
	w.exec(`CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON activity_logs
		DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()`)
	w.send(ws, adminToken, strings.Replace(message, `"m"`, `"m2"`, 1)).want(t, 503, "message could not be recorded, retry")
	w.exec(`DROP TRIGGER refuse ON activity_logs`)
	if got := w.send(ws, adminToken, strings.Replace(message, `"m"`, `"m2"`, 1)); got.status != http.StatusOK {
		t.Errorf("retry: %d %s", got.status, got.body)
	}
	if n := len(w.feed(ws, token, "")); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
}

func TestPollMessagesAndUploadsAreIndependentOfTheURL(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	for _, url := range []string{"", "nonsense", "http://169.254.169.254/", "http://127.0.0.1:1", "http://absent.invalid"} {
		ws, token := w.workspace("poll")
		w.exec(`UPDATE workspaces SET url = $2 WHERE id = $1`, ws.String(), url)
		w.chat(ws, token, "m", part{name: "a", content: "x"})
		if n := len(w.feed(ws, token, "?type=a2a_receive")); n != 2 {
			t.Errorf("url %q: %d rows, want upload and message", url, n)
		}
	}
}

func TestTypeBecomesKindAndNeverStaysBesideIt(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	w.send(ws, adminToken, `{"method":"message/send","params":{"message":{"messageId":"m","parts":[
		{"type":"text","text":"a"},{"kind":"text","type":"other","text":"b"},{"kind":"text","text":"c"},
		{"type":"file","file":{"name":"n","uri":"u","type":"kept"}}]}}}`)
	got := w.do("GET", "/workspaces/"+ws.String()+"/activity", token, nil)
	var rows []struct {
		Body struct {
			Params struct {
				Message struct {
					Parts []map[string]any `json:"parts"`
				} `json:"message"`
			} `json:"params"`
		} `json:"request_body"`
	}
	got.json(t, &rows)
	want := []map[string]any{
		{"kind": "text", "text": "a"},
		{"kind": "text", "text": "b"},
		{"kind": "text", "text": "c"},
		{"kind": "file", "file": map[string]any{"name": "n", "uri": "u", "type": "kept"}},
	}
	if diff := cmp.Diff(want, rows[0].Body.Params.Message.Parts); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
	if !strings.Contains(got.body, `"kind":"text"`) {
		t.Errorf("not compact: %s", got.body)
	}
}

// An agent must not answer itself: its notifications have the method notify and
// no source, its reports and its messages to itself have itself as source, and
// what a person says has neither.
func TestOwnRowsAreRecognisableByMethodAndSource(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	w.postJSON("/workspaces/"+ws.String()+"/notify", token, `{"message":"reply"}`)
	w.postJSON("/workspaces/"+ws.String()+"/activity", token, `{"activity_type":"a2a_receive","method":"message/send"}`)
	w.send(ws, token, `{"method":"message/send","params":{"message":{"content":"echo"}}}`)
	w.send(ws, adminToken, `{"method":"message/send","params":{"message":{"content":"a person"}}}`)
	var got []string
	for _, row := range w.feed(ws, token, "?type=a2a_receive") {
		source := "nobody"
		if row["source_id"] != nil {
			source = strings.Replace(fmt.Sprint(row["source_id"]), ws.String(), "itself", 1)
		}
		got = append(got, fmt.Sprint(row["method"], " of ", source))
	}
	want := []string{"message/send of nobody", "message/send of itself", "message/send of itself", "notify of nobody"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows, newest first (-want +got):\n%s", diff)
	}
	p := w.pythonPoller(ws, token)
	p.poll()
	if n := len(p.agent.messages); n != 1 {
		t.Errorf("its poller hands on %d messages, want the person's alone", n)
	}
}

func TestDefaultLimitsAreWhatReleasedClientsTake(t *testing.T) {
	t.Parallel()
	got := storage.DefaultLimits().MaxFileBytes
	for client, most := range map[string]int64{"Python runtime": pythonFileCap, "channel client": channelFileCap} {
		if got != most {
			t.Errorf("%d bytes a file, but the %s drops what is above %d", got, client, most)
		}
	}
}

func TestDeletionNeedsXConfirmNameAndStopsTokensAtOnce(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	path := "/workspaces/" + ws.String()
	w.do("DELETE", path, adminToken, nil).want(t, 400, "destructive_action_requires_confirmation")
	w.do("DELETE", path, adminToken, nil, "X-Confirm-Name", "other").want(t, 400, "destructive_action_requires_confirmation")
	w.do("DELETE", path, token, nil, "X-Confirm-Name", ws.String()).want(t, 401, "invalid admin auth token")
	w.feed(ws, token, "")
	if got := w.do("DELETE", path, adminToken, nil, "X-Confirm-Name", ws.String()); got.status != http.StatusOK {
		t.Fatalf("%d %s", got.status, got.body)
	}
	w.do("GET", path+"/activity", token, nil).want(t, 401, "invalid workspace auth token")
}
