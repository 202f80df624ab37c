package handlers_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// numbered is n summaries.
func numbered(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprint(i)
	}
	return list
}

func (w *world) streams() int {
	w.t.Helper()
	return w.gauge("pendinguploads_feed_streams_active")
}

// waitForLock returns once a backend of the database waits for a lock.
func (w *world) waitForLock() {
	w.t.Helper()
	eventually(w.t, "a writer waits for a lock", func() bool {
		return w.count(`SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) > 0
	})
}

func TestStreamBeginsWhereItIsTold(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	many := numbered(250) // more than one page
	written := w.say(ws, "a2a_receive", many...)
	w.exec(`UPDATE activity_logs SET created_at = now() - interval '1 hour' WHERE workspace_id = $1 AND seq <= 5`, ws.String())
	id := func(i int) string { return written[i].ID.String() }

	for name, test := range map[string]struct {
		query, lastEventID string
		from               int // of written
	}{
		"since_id":                  {"?since_id=" + id(99), "", 100},
		"Last-Event-ID":             {"", id(200), 201},
		"both, and the header wins": {"?since_id=" + id(3), id(200), 201},
		"the newest":                {"?since_id=" + id(249), "", 250},
		"window":                    {"?since_secs=600", "", 5},
		"window and cursor":         {"?since_secs=600&since_id=" + id(1), "", 2},
		"limit means nothing":       {"?since_id=" + id(99) + "&limit=1", "", 100},
		"nothing":                   {"", "", 250},
		"everything":                {"?since_secs=86400", "", 0},
	} {
		var headers []string
		if test.lastEventID != "" {
			headers = []string{"Last-Event-ID", test.lastEventID}
		}
		f := w.follow(ws, token, test.query, headers...)
		if line := f.line(); line != "retry: 2000" {
			t.Errorf("%s: first line %q", name, line)
		}
		for i := test.from; i < len(many); i++ {
			if e := f.next(); e.id != id(i) {
				t.Fatalf("%s: event %v, want that of entry %d", name, e, i)
			}
		}
		f.wantNone()
		f.cancel()
	}
	eventually(t, "clients that leave are noticed", func() bool { return w.streams() == 0 })

	f := w.follow(ws, token, "")
	w.say(ws, "a2a_receive", "new")
	f.want("new")
}

func TestStreamRefuses(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	other, _ := w.workspace("poll")
	foreign := w.say(other, "a2a_receive", "x")[0].ID.String()
	const gone = "since_id cursor not found (row may have been pruned or belongs to a different workspace); omit since_id to reset"
	for name, cursor := range map[string]string{"foreign": foreign, "zero": uuid.Nil.String(), "malformed": "x"} {
		w.do("GET", streamPath(ws)+"?since_id="+cursor, token, nil).want(t, 410, gone)
		w.do("GET", streamPath(ws), token, nil, "Last-Event-ID", cursor).want(t, 410, gone)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	w.do("GET", streamPath(ws)+"?source=x", token, nil).want(t, 400, "source must be 'canvas' or 'agent'")
	w.do("GET", streamPath(newWorkspaceID(t)), adminToken, nil).want(t, 404, "workspace not found")
	if n := w.streams(); n != 0 {
		t.Errorf("%d streams are counted", n)
	}
}

// What a stream sends is what the poll answers, row for row, with every filter.
func TestStreamSendsTheRowsOfThePoll(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	peer, _ := w.workspace("poll")
	source, summary := uuid.UUID(peer), "<a & b>"
	for i := range 3 {
		for _, e := range []metadata.NewEntry{
			{ActivityType: "a2a_receive", SourceID: &source, Summary: &summary, RequestBody: json.RawMessage(`{"a": "line\nbreak\r\u2028", "n": [1, 2]}`)},
			{ActivityType: "a2a_receive", RequestBody: json.RawMessage(`{"params":{"message":{"parts":[{"kind":"file","file":{"name":"n","uri":"u"}}]}}}`)},
			{ActivityType: "error", TargetID: &source, DurationMS: &i},
		} {
			if _, err := w.activity.Append(t.Context(), ws, e); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.mustUpload(ws, token, part{name: "a.txt", mimeType: "text/plain", content: "x"})
	for _, filter := range []string{
		"", "&type=error", "&source=agent", "&source=canvas", "&peer_id=" + peer.String(),
		"&include=peer_info", "&type=a2a_receive&source=agent&include=peer_info", "&type=none",
	} {
		var rows []json.RawMessage
		w.do("GET", "/workspaces/"+ws.String()+"/activity?since_secs=600"+filter, token, nil).json(t, &rows)
		slices.Reverse(rows) // newest first
		f := w.follow(ws, token, "?since_secs=600"+filter)
		for _, row := range rows {
			var key struct{ ID string }
			if err := json.Unmarshal(row, &key); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(feedEvent{key.ID, "activity", string(row)}, f.next(), cmp.AllowUnexported(feedEvent{})); diff != "" {
				t.Errorf("%s (-poll +stream):\n%s", filter, diff)
			}
		}
		f.wantNone()
		f.cancel()
	}
}

func TestStreamHeaders(t *testing.T) {
	t.Parallel()
	w := newServer(t, func(c *handlers.Config) { c.CORSOrigins = []string{"http://canvas.test"} })
	ws, token := w.workspace("poll")
	f := w.follow(ws, token, "", "Origin", "http://canvas.test")
	for name, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no",
		"X-Content-Type-Options": "nosniff", "Access-Control-Allow-Origin": "http://canvas.test",
	} {
		if got := f.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if _, err := http.ParseTime(f.header.Get("Date")); err != nil {
		t.Error(err)
	}
	const counted = `molecule_http_requests_total{method="GET",path="/workspaces/:id/activity/stream",status="200"} 1`
	eventually(t, "the stream is counted as a request with status 200", func() bool {
		return strings.Contains(w.do("GET", "/metrics", "", nil).body, counted)
	})
}

func TestStreamShowsSignsOfLife(t *testing.T) {
	t.Parallel()
	w := newServer(t, func(c *handlers.Config) { c.Timeouts.Heartbeat = 30 * time.Millisecond })
	ws, token := w.workspace("poll")
	f, g := w.follow(ws, token, ""), w.follow(ws, token, "")
	for _, f := range []*follower{f, g} {
		for _, want := range []string{"retry: 2000", ": ping", ": ping", ": ping"} {
			if line := f.line(); line != want {
				t.Errorf("line %q, want %q", line, want)
			}
		}
	}
	w.say(ws, "a2a_receive", "amid them")
	f.want("amid them")
	g.want("amid them")
}

// Rows that do not match move the stream's position on, so that their being
// pruned later is no loss, and do not end it.
func TestStreamPassesOverWhatDoesNotMatch(t *testing.T) {
	t.Parallel()
	var pages atomic.Int32
	w := newServerWith(t, setup{feed: feedSetup{wrap: func(db metadata.DB) metadata.DB {
		return &feedHook{DB: db, after: func(sql string) {
			if isPage(sql) {
				pages.Add(1)
			}
		}}
	}}})
	ws, token := w.workspace("poll")
	f := w.follow(ws, token, "?type=a2a_receive")
	for round := range 3 {
		before := pages.Load()
		w.say(ws, "agent_log", numbered(10)...)
		eventually(t, "the stream has looked", func() bool { return pages.Load() > before })
		w.exec(`DELETE FROM activity_logs WHERE workspace_id = $1 AND activity_type = 'agent_log'`, ws.String())
		f.wantNone()
		w.say(ws, "a2a_receive", fmt.Sprint(round))
		f.want(fmt.Sprint(round))
	}
}

func TestReplicasWakeEachOther(t *testing.T) {
	t.Parallel()
	feed := feedSetup{watch: metadata.FeedWatchConfig{Poll: never}, notify: direct}
	a := newServerWith(t, setup{feed: feed})
	feed.database = a.database
	b := newServerWith(t, setup{feed: feed})
	for _, w := range []*world{a, b} {
		eventually(t, "the server listens", func() bool { return w.gauge("pendinguploads_feed_listening") == 1 })
	}
	ws, token := a.workspace("poll")
	f, g := a.follow(ws, token, ""), b.follow(ws, token, "")
	answered := b.ask(ws, token, "?wait=60s")
	eventually(t, "b is waited at", func() bool { return b.gauge("pendinguploads_feed_waits_active") == 1 })

	a.mustUpload(ws, token, part{name: "a.txt", content: "x"})
	wantRows(t, answered, "chat_upload_receive: a.txt")
	f.want("chat_upload_receive: a.txt")
	g.want("chat_upload_receive: a.txt")
	b.send(ws, adminToken, `{"method":"message/send","params":{"message":{"messageId":"m","parts":[]}}}`)
	if x, y := f.next(), g.next(); x != y || !strings.Contains(x.data, `"method":"message/send"`) {
		t.Errorf("a message through b: %v at a, %v at b", x, y)
	}
}

// The listening connection is killed, and an entry commits while it is down.
func TestLostNotificationIsHealed(t *testing.T) {
	t.Parallel()
	reconnect := make(chan struct{}, 1)
	reconnect <- struct{}{}
	var tries atomic.Int32
	w := newServerWith(t, setup{feed: feedSetup{
		watch: metadata.FeedWatchConfig{Poll: never},
		notify: func(dial dialFunc) dialFunc {
			return func(ctx context.Context) (*pgx.Conn, error) {
				tries.Add(1)
				select {
				case <-reconnect:
					return dial(ctx)
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
		},
	}})
	listening := func() bool { return w.gauge("pendinguploads_feed_listening") == 1 }
	eventually(t, "the server listens", listening)
	ws, token := w.workspace("poll")
	f := w.follow(ws, token, "?since_secs=60")
	answered := w.ask(ws, token, "?wait=60s&type=error")
	eventually(t, "both wait", func() bool { return w.gauge("pendinguploads_feed_waits_active") == 1 && w.streams() == 1 })
	w.sayElsewhere(ws, "a2a_receive", "heard")
	f.want("heard")

	if n := w.count(`SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN pendinguploads_feed'`); n != 1 {
		t.Fatalf("%d listening backends, want 1", n)
	}
	eventually(t, "the loss is noticed", func() bool { return !listening() && tries.Load() == 2 })
	w.sayElsewhere(ws, "error", "missed")
	f.wantNone()
	wantNoAnswer(t, answered)
	reconnect <- struct{}{}
	f.want("missed")
	wantRows(t, answered, "missed")
	w.sayElsewhere(ws, "a2a_receive", "heard again")
	f.want("heard again")
	if n := len(w.log.lines("no notifications from the database; feeds are polled until there are")); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
}

// The upload's transaction is held open while another writer waits behind it and
// a stream is woken: the stream sees neither, and afterwards both, in order.
func TestStreamNeverStepsOverAnUncommittedWriter(t *testing.T) {
	t.Parallel()
	var pages atomic.Int32
	w := newServerWith(t, setup{feed: feedSetup{
		watch: metadata.FeedWatchConfig{Poll: 20 * time.Millisecond}, notify: direct,
		wrap: func(db metadata.DB) metadata.DB {
			return &feedHook{DB: db, after: func(sql string) {
				if isPage(sql) {
					pages.Add(1)
				}
			}}
		},
	}})
	eventually(t, "the server listens", func() bool { return w.gauge("pendinguploads_feed_listening") == 1 })
	ws, token := w.workspace("poll")
	f := w.follow(ws, token, "?since_secs=60")
	tx, err := w.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	early := metadata.NewActivity(metadata.ActivityConfig{DB: tx, Notify: true})
	sayThrough(t, early, ws, "a2a_receive", "1", "2")
	late := make(chan error, 1)
	go func() {
		summary := "3"
		_, err := w.activity.Append(t.Context(), ws, metadata.NewEntry{ActivityType: "a2a_receive", Summary: &summary})
		late <- err
	}()
	w.waitForLock()
	other := w.follow(ws, token, "?since_secs=60") // reads while they wait
	before := pages.Load()
	w.exec(`SELECT pg_notify('pendinguploads_feed', $1)`, ws.String())
	eventually(t, "the streams have looked", func() bool { return pages.Load() > before })
	f.wantNone()
	other.wantNone()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-late; err != nil {
		t.Fatal(err)
	}
	f.want("1", "2", "3")
	other.want("1", "2", "3")
}

// Over HTTP/2 a connection is shared and cannot be taken over.
func TestStreamOverHTTP2(t *testing.T) {
	t.Parallel()
	w := newServerWith(t, setup{feed: feedSetup{watch: metadata.FeedWatchConfig{Poll: 50 * time.Millisecond}}},
		func(c *handlers.Config) { c.Timeouts.Heartbeat = 30 * time.Millisecond })
	srv := httptest.NewUnstartedServer(w.server.Handler())
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	plain := w.url
	w.url, w.client = srv.URL, srv.Client()
	ws, token := w.workspace("poll")
	f, g := w.follow(ws, token, ""), w.follow(ws, token, "?since_secs=60")
	w.say(ws, "a2a_receive", "1")
	last := f.want("1")
	g.want("1")
	for _, want := range []string{"retry: 2000", ": ping"} {
		if line := f.line(); line != want {
			t.Errorf("line %q, want %q", line, want)
		}
	}
	g.cancel()
	eventually(t, "the one that leaves is noticed", func() bool { return w.streams() == 1 })
	w.exec(`UPDATE workspace_auth_tokens SET revoked_at = now() WHERE workspace_id = $1`, ws.String())
	f.wantEnd()
	w.url = plain
	h := w.follow(ws, adminToken, "", "Last-Event-ID", last.id)
	w.say(ws, "a2a_receive", "2")
	h.want("2")
}

// Many streams of many workspaces open, receive, and leave at the same time.
func TestStreamsComeAndGo(t *testing.T) {
	t.Parallel()
	w := newServerWith(t, setup{feed: feedSetup{watch: metadata.FeedWatchConfig{Poll: 10 * time.Millisecond}}},
		func(c *handlers.Config) { c.Timeouts.Heartbeat = 15 * time.Millisecond })
	const workspaces, rounds = 8, 10
	type party struct {
		ws    storage.WorkspaceID
		token string
	}
	parties := make([]party, workspaces)
	for i := range parties {
		parties[i].ws, parties[i].token = w.workspace("poll")
	}
	done := make(chan error, workspaces)
	for _, p := range parties {
		go func() {
			done <- func() error {
				last := ""
				for round := range rounds {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+streamPath(p.ws)+"?since_secs=600", nil)
					if err != nil {
						return err
					}
					req.Header.Set("Authorization", "Bearer "+p.token)
					if last != "" {
						req.Header.Set("Last-Event-ID", last)
					}
					resp, err := w.client.Do(req)
					if err != nil {
						return err
					}
					summary := fmt.Sprint(round)
					if _, err := w.activity.Append(t.Context(), p.ws, metadata.NewEntry{ActivityType: "a2a_receive", Summary: &summary}); err != nil {
						return err
					}
					got := ""
					for lines := bufio.NewScanner(resp.Body); got == "" && lines.Scan(); {
						if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
							last = id
						}
						if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
							got = data
						}
					}
					_ = resp.Body.Close()
					if !strings.Contains(got, `"summary":"`+summary+`"`) {
						return fmt.Errorf("round %d: %s", round, got)
					}
				}
				return nil
			}()
		}()
	}
	for range parties {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	eventually(t, "all have left", func() bool { return w.streams() == 0 })
}
