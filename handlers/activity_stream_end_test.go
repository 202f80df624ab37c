package handlers_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/metadata"
)

func TestShutdownEndsWaitsAndStreamsAndAReplicaTakesOver(t *testing.T) {
	t.Parallel()
	a := newServerWith(t, setup{})
	b := newServerWith(t, setup{feed: feedSetup{database: a.database}})
	ws, token := a.workspace("poll")
	f := a.follow(ws, token, "")
	answered := a.ask(ws, token, "?wait=60s&type=error")
	eventually(t, "both wait", func() bool { return a.gauge("pendinguploads_feed_waits_active") == 1 })
	a.say(ws, "a2a_receive", "1", "2")
	last := f.want("1", "2")

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := a.http.Shutdown(ctx); err != nil {
		t.Errorf("shutdown waited for those who wait: %v", err)
	}
	f.wantEnd()
	wantRows(t, answered)
	b.say(ws, "a2a_receive", "3", "4")
	g := b.follow(ws, token, "", "Last-Event-ID", last.id)
	g.want("3", "4")
	b.say(ws, "a2a_receive", "5")
	g.want("5")
	g.wantNone()
}

func TestStreamEndsWithItsTokenOrWorkspace(t *testing.T) {
	t.Parallel()
	w := newServerWith(t, setup{feed: feedSetup{watch: metadata.FeedWatchConfig{Poll: 50 * time.Millisecond}}})
	ws, token := w.workspace("poll")
	secret, minted, err := w.tokens.Mint(t.Context(), ws, metadata.TokenAPI)
	if err != nil {
		t.Fatal(err)
	}
	gone, goneToken := w.workspace("poll")
	purged, _ := w.workspace("poll")
	own, api, admin := w.follow(ws, token, ""), w.follow(ws, secret, ""), w.follow(ws, adminToken, "")
	removed, removedAdmin, purgedAdmin := w.follow(gone, goneToken, ""), w.follow(gone, adminToken, ""), w.follow(purged, adminToken, "")

	w.exec(`UPDATE workspace_auth_tokens SET revoked_at = now() WHERE id = $1`, minted.ID)
	api.wantEnd()
	w.exec(`UPDATE workspaces SET status = 'removed' WHERE id = $1`, gone.String())
	removed.wantEnd()
	removedAdmin.wantEnd()
	w.exec(`DELETE FROM workspaces WHERE id = $1`, purged.String())
	purgedAdmin.wantEnd()
	w.say(ws, "a2a_receive", "still here")
	own.want("still here")
	admin.want("still here")
	if n := w.streams(); n != 2 {
		t.Errorf("%d streams are counted, want 2", n)
	}
}

func TestDeletingAWorkspaceEndsItsFeedStreamsAtOnce(t *testing.T) {
	t.Parallel()
	w := newServerWith(t, setup{feed: feedSetup{watch: metadata.FeedWatchConfig{Poll: never}}})
	ws, token := w.workspace("poll")
	f, admin := w.follow(ws, token, ""), w.follow(ws, adminToken, "")
	if got := w.do("DELETE", "/workspaces/"+ws.String(), adminToken, nil, "X-Confirm-Name", ws.String()); got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	f.wantEnd()
	admin.wantEnd()
}

// A client that reads nothing is dropped, with what the kernel has taken for it
// on its way; what it then got it continues from.
func TestSlowConsumerIsDroppedAndResumes(t *testing.T) {
	t.Parallel()
	w := newServer(t, func(c *handlers.Config) { c.Timeouts.Window = 200 * time.Millisecond })
	ws, token := w.workspace("poll")
	start := w.say(ws, "a2a_receive", "start")[0].ID.String()
	conn := w.dialRequest("GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nLast-Event-ID: %s\r\n\r\n", streamPath(ws), w.addr, token, start)
	eventually(t, "the stream is open", func() bool { return w.streams() == 1 })
	const rows = 64
	big, err := json.Marshal(strings.Repeat("x", 512<<10))
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		summary := fmt.Sprint(i)
		if _, err := w.activity.Append(t.Context(), ws, metadata.NewEntry{ActivityType: "a2a_receive", Summary: &summary, RequestBody: big}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the stream is dropped", func() bool { return w.streams() == 0 })
	if n := w.gauge("pendinguploads_feed_slow_consumers_total"); n != 1 {
		t.Errorf("%d slow consumers are counted, want 1", n)
	}

	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	slow := &follower{t: t, events: make(chan feedEvent, rows), other: make(chan string, 100)}
	slow.read(resp.Body)
	close(slow.events)
	last, got := start, 0
	for e := range slow.events {
		if e.summary(t) != fmt.Sprint(got) {
			t.Fatalf("event %d is of %s", got, e.summary(t))
		}
		last = e.id
		got++
	}
	if got == rows {
		t.Fatal("the kernel took everything; the client was not slow")
	}
	f := w.follow(ws, token, "", "Last-Event-ID", last)
	f.want(numbered(rows)[got:]...)
}

// One client reads nothing; another on the same feed gets everything meanwhile.
func TestSlowConsumerDelaysNobody(t *testing.T) {
	t.Parallel()
	w := newServer(t, func(c *handlers.Config) { c.Timeouts.Window = time.Minute })
	ws, token := w.workspace("poll")
	start := w.say(ws, "a2a_receive", "start")[0].ID.String()
	w.dialRequest("GET %s?since_id=%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", streamPath(ws), start, w.addr, token)
	f := w.follow(ws, token, "?since_id="+start)
	eventually(t, "both are open", func() bool { return w.streams() == 2 })
	big, err := json.Marshal(strings.Repeat("x", 512<<10))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 48 {
		summary := fmt.Sprint(i)
		if _, err := w.activity.Append(t.Context(), ws, metadata.NewEntry{ActivityType: "a2a_receive", Summary: &summary, RequestBody: big}); err != nil {
			t.Fatal(err)
		}
		f.want(summary)
	}
	if n := w.streams(); n != 2 {
		t.Errorf("%d streams are open; the slow one was not slow", n)
	}
}

// Reads fail for a while; the streams stay, and catch up.
func TestStreamOutlivesAReadError(t *testing.T) {
	t.Parallel()
	var failures atomic.Int32
	w := newServerWith(t, setup{feed: feedSetup{
		watch: metadata.FeedWatchConfig{Poll: never},
		wrap: func(db metadata.DB) metadata.DB {
			return &feedHook{DB: db, before: func(sql string) error {
				if isPage(sql) && failures.Add(-1) >= 0 {
					return errors.New("the database is away")
				}
				return nil
			}}
		},
	}}, func(c *handlers.Config) { c.Timeouts.Heartbeat = 30 * time.Millisecond })
	ws, token := w.workspace("poll")
	f, g := w.follow(ws, token, ""), w.follow(ws, token, "?type=a2a_receive")
	failures.Store(6)
	w.say(ws, "a2a_receive", "1")
	f.want("1")
	g.want("1")
	w.say(ws, "a2a_receive", "2")
	f.want("2")
	g.want("2")
	if failures.Load() >= 0 {
		t.Error("no read failed")
	}
}

// Entries that a stream is about to read are pruned: it must not pass over them
// in silence.
func TestStreamEndsWhereEntriesArePrunedUnderIt(t *testing.T) {
	t.Parallel()
	reading, read := make(chan struct{}), make(chan struct{})
	var armed atomic.Bool
	w := newServerWith(t, setup{feed: feedSetup{wrap: func(db metadata.DB) metadata.DB {
		return &feedHook{DB: db, before: func(sql string) error {
			if isPage(sql) && armed.CompareAndSwap(true, false) {
				close(reading)
				<-read
			}
			return nil
		}}
	}}})
	ws, token := w.workspace("poll")
	f := w.follow(ws, token, "")
	w.say(ws, "a2a_receive", "1")
	last := f.want("1")
	armed.Store(true)
	w.say(ws, "a2a_receive", "2", "3")
	<-reading
	w.exec(`DELETE FROM activity_logs WHERE workspace_id = $1 AND seq <= 2`, ws.String())
	close(read)
	f.wantEnd()
	w.do("GET", streamPath(ws), token, nil, "Last-Event-ID", last.id).want(t, 410,
		"since_id cursor not found (row may have been pruned or belongs to a different workspace); omit since_id to reset")
}

// A stream that is idle while everything it has sent is pruned is none the worse.
func TestStreamOutlivesItsCursor(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	f := w.follow(ws, token, "")
	w.say(ws, "a2a_receive", "1")
	f.want("1")
	w.exec(`DELETE FROM activity_logs WHERE workspace_id = $1`, ws.String())
	w.say(ws, "a2a_receive", "2")
	f.want("2")
}
