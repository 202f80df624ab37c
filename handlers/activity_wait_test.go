package handlers_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// ask polls the feed in a goroutine.
func (w *world) ask(ws storage.WorkspaceID, token, query string) <-chan reply {
	answered := make(chan reply, 1)
	go func() {
		got, err := w.try("GET", "/workspaces/"+ws.String()+"/activity"+query, token, nil)
		if err != nil {
			w.t.Error(err)
		}
		answered <- got
	}()
	return answered
}

// wantRows waits for the answer and compares the summaries of its rows.
func wantRows(t *testing.T, answered <-chan reply, summaries ...string) {
	t.Helper()
	select {
	case got := <-answered:
		if got.status != http.StatusOK {
			t.Fatalf("%d %s", got.status, got.body)
		}
		var rows []struct{ Summary string }
		got.json(t, &rows)
		have := []string{}
		for _, row := range rows {
			have = append(have, row.Summary)
		}
		if diff := cmp.Diff(append([]string{}, summaries...), have); diff != "" {
			t.Errorf("rows (-want +got):\n%s", diff)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("no answer within 20 s")
	}
}

func wantNoAnswer(t *testing.T, answered <-chan reply) {
	t.Helper()
	select {
	case got := <-answered:
		t.Errorf("answered %d %s, want it to wait", got.status, got.body)
	default:
	}
}

func TestParseWait(t *testing.T) {
	t.Parallel()
	for p, want := range map[string]time.Duration{
		"": 0, "0": 0, "0s": 0, "25s": 25 * time.Second, "25": 25 * time.Second, "1500ms": 1500 * time.Millisecond,
		"60": time.Minute, "61": time.Minute, "1h": time.Minute, "99999999999999999999999": time.Minute,
	} {
		if got, err := handlers.ParseWait(p); err != nil || got != want {
			t.Errorf("wait=%s: %v, %v; want %v", p, got, err, want)
		}
	}
	for _, p := range []string{"-1", "-1s", "x", "1.5", "25 s", " ", "s"} {
		if got, err := handlers.ParseWait(p); err == nil {
			t.Errorf("wait=%s: %v, want an error", p, got)
		}
	}
}

func TestWaitWhereThereIsNothingToWaitFor(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	first := w.say(ws, "a2a_receive", "1", "2")[0].ID
	feed := "/workspaces/" + ws.String() + "/activity"

	wantRows(t, w.ask(ws, token, "?wait=60s"), "2", "1")
	wantRows(t, w.ask(ws, token, "?wait=60s&since_id="+first.String()), "2")
	wantRows(t, w.ask(ws, token, "?type=error")) // no wait is none
	wantRows(t, w.ask(ws, token, "?type=error&wait=1ms"))
	w.do("GET", feed+"?wait=soon", token, nil).want(t, 400, "wait must be a duration such as 25s, or a number of seconds")
	w.do("GET", feed+"?wait=60s&since_id=00000000-0000-0000-0000-000000000000", token, nil).
		want(t, 410, "since_id cursor not found (row may have been pruned or belongs to a different workspace); omit since_id to reset")
}

// A row that does not match wakes the waiter and lets it wait on.
func TestWaitEndsWithTheFirstRowThatMatches(t *testing.T) {
	t.Parallel()
	for _, query := range []string{"", "&since_id=", "&since_secs=60", "&include=peer_info"} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			var pages atomic.Int32
			w := newServerWith(t, setup{feed: feedSetup{
				watch: metadata.FeedWatchConfig{Poll: never},
				wrap: func(db metadata.DB) metadata.DB {
					return &feedHook{DB: db, after: func(sql string) {
						if isPage(sql) {
							pages.Add(1)
						}
					}}
				},
			}})
			ws, token := w.workspace("poll")
			if query == "&since_id=" {
				query += w.say(ws, "agent_log", "cursor")[0].ID.String()
			}
			answered := w.ask(ws, token, "?type=a2a_receive&wait=60s"+query)
			eventually(t, "the waiter has read the feed", func() bool { return pages.Load() == 1 })
			if n := w.gauge("pendinguploads_feed_waits_active"); n != 1 {
				t.Errorf("%d waits are counted, want 1", n)
			}
			w.say(ws, "agent_log", "of no interest")
			eventually(t, "the waiter has looked again", func() bool { return pages.Load() == 2 })
			wantNoAnswer(t, answered)
			w.say(ws, "a2a_receive", "at last")
			wantRows(t, answered, "at last")
			eventually(t, "the wait is over", func() bool { return w.gauge("pendinguploads_feed_waits_active") == 0 })
		})
	}
}

// An entry that commits after the waiter has read and before it waits is not
// waited past.
func TestNothingFallsBetweenReadingAndWaiting(t *testing.T) {
	t.Parallel()
	between := make(chan func(), 1)
	w := newServerWith(t, setup{feed: feedSetup{
		watch: metadata.FeedWatchConfig{Poll: never},
		wrap: func(db metadata.DB) metadata.DB {
			return &feedHook{DB: db, after: func(sql string) {
				if !isPage(sql) {
					return
				}
				select {
				case f := <-between:
					f()
				default:
				}
			}}
		},
	}})
	ws, token := w.workspace("poll")
	between <- func() { w.say(ws, "a2a_receive", "in between") }
	wantRows(t, w.ask(ws, token, "?wait=60s"), "in between")

	between <- func() { w.say(ws, "a2a_receive", "for the stream") }
	f := w.follow(ws, token, "?since_secs=60")
	f.want("in between", "for the stream")
}

func TestWaitIsHealedByPolling(t *testing.T) {
	t.Parallel()
	w := newServerWith(t, setup{feed: feedSetup{watch: metadata.FeedWatchConfig{Poll: 50 * time.Millisecond}}})
	ws, token := w.workspace("poll")
	cursor := w.say(ws, "a2a_receive", "cursor")[0].ID.String()
	answered := w.ask(ws, token, "?wait=60s&since_id="+cursor)
	f := w.follow(ws, token, "?since_id="+cursor)
	eventually(t, "both wait", func() bool {
		return w.gauge("pendinguploads_feed_waits_active") == 1 && w.gauge("pendinguploads_feed_streams_active") == 1
	})
	w.sayElsewhere(ws, "a2a_receive", "from elsewhere")
	wantRows(t, answered, "from elsewhere")
	f.want("from elsewhere")
	if n := w.gauge("pendinguploads_feed_listening"); n != 0 {
		t.Error("the server listens though it is told not to")
	}
}

func TestWaitEndsWithItsToken(t *testing.T) {
	t.Parallel()
	w := newServerWith(t, setup{feed: feedSetup{watch: metadata.FeedWatchConfig{Poll: 50 * time.Millisecond}}})
	ws, token := w.workspace("poll")
	own, admin := w.ask(ws, token, "?wait=60s"), w.ask(ws, adminToken, "?wait=60s")
	eventually(t, "both wait", func() bool { return w.gauge("pendinguploads_feed_waits_active") == 2 })
	w.exec(`UPDATE workspace_auth_tokens SET revoked_at = now() WHERE workspace_id = $1`, ws.String())
	got := <-own
	got.want(t, 401, "invalid workspace auth token")
	wantNoAnswer(t, admin)
	w.exec(`UPDATE workspaces SET status = 'removed' WHERE id = $1`, ws.String())
	wantRows(t, admin)
}

func TestWaitCountsAsOneRequest(t *testing.T) {
	t.Parallel()
	w := newServer(t, func(c *handlers.Config) { c.RateLimit = 3 })
	ws, token := w.workspace("poll")
	for i := range 3 {
		got := w.do("GET", "/workspaces/"+ws.String()+"/activity?wait=1ms", token, nil)
		if left := got.header.Get("X-RateLimit-Remaining"); got.status != 200 || left != fmt.Sprint(2-i) {
			t.Errorf("request %d: %d, %s left", i, got.status, left)
		}
	}
	w.do("GET", "/workspaces/"+ws.String()+"/activity?wait=1ms", token, nil).want(t, 429, "rate limit exceeded")
}

// A server without a FeedWatch is one that never heard of waiting.
func TestWithoutAWatchNobodyWaits(t *testing.T) {
	t.Parallel()
	w := newServer(t, func(c *handlers.Config) { c.Watch = nil })
	ws, token := w.workspace("poll")
	wantRows(t, w.ask(ws, token, "?wait=60s"))
	w.do("GET", streamPath(ws), token, nil).want(t, 404, "not found")
}
