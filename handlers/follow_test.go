package handlers_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// feedEvent is one event of a feed stream.
type feedEvent struct {
	id, event, data string
}

// summary is the summary of the event's row.
func (e feedEvent) summary(t *testing.T) string {
	t.Helper()
	var row struct{ Summary string }
	if err := json.Unmarshal([]byte(e.data), &row); err != nil {
		t.Fatalf("data %q: %v", e.data, err)
	}
	return row.Summary
}

// follower is a client of a feed stream.
type follower struct {
	t      *testing.T
	header http.Header
	events chan feedEvent
	other  chan string // comments and retry lines
	cancel func()
}

// follow opens a stream; headers are pairs.
func (w *world) follow(ws storage.WorkspaceID, token, query string, headers ...string) *follower {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+streamPath(ws)+query, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	client := *w.client
	client.Timeout = 0
	resp, err := client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		b, _ := io.ReadAll(resp.Body)
		w.t.Fatalf("stream: %d %v %s", resp.StatusCode, resp.Header, b)
	}
	f := &follower{t: w.t, header: resp.Header, events: make(chan feedEvent, 10_000), other: make(chan string, 10_000), cancel: cancel}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(f.events)
		defer func() { _ = resp.Body.Close() }()
		f.read(resp.Body)
	}()
	w.t.Cleanup(func() {
		cancel()
		<-done
	})
	return f
}

func streamPath(ws storage.WorkspaceID) string {
	return "/workspaces/" + ws.String() + "/activity/stream"
}

// read passes on the events that are complete.
func (f *follower) read(body io.Reader) {
	lines := bufio.NewReaderSize(body, 1<<16)
	var e feedEvent
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\n")
		name, value, _ := strings.Cut(line, ": ")
		switch {
		case line == "" && e != feedEvent{}:
			f.events <- e
			e = feedEvent{}
		case line == "":
		case name == "id":
			e.id = value
		case name == "event":
			e.event = value
		case name == "data":
			e.data = value
		default:
			f.other <- line
		}
	}
}

// next is the next event.
func (f *follower) next() feedEvent {
	f.t.Helper()
	select {
	case e, ok := <-f.events:
		if !ok {
			f.t.Fatal("the stream ended")
		}
		return e
	case <-time.After(20 * time.Second):
		f.t.Fatal("no event within 20 s")
	}
	panic("unreachable")
}

// want reads events with these summaries, in order.
func (f *follower) want(summaries ...string) (last feedEvent) {
	f.t.Helper()
	for _, want := range summaries {
		last = f.next()
		if got := last.summary(f.t); got != want || last.event != "activity" {
			f.t.Fatalf("event %q of %q, want %q", last.event, got, want)
		}
	}
	return last
}

// line is the next line that belongs to no event.
func (f *follower) line() string {
	f.t.Helper()
	select {
	case line := <-f.other:
		return line
	case <-time.After(20 * time.Second):
		f.t.Fatal("no comment within 20 s")
	}
	panic("unreachable")
}

// wantEnd fails if anything but the end comes.
func (f *follower) wantEnd() {
	f.t.Helper()
	select {
	case e, ok := <-f.events:
		if ok {
			f.t.Errorf("event %v, want the end", e)
		}
	case <-time.After(20 * time.Second):
		f.t.Error("the stream did not end within 20 s")
	}
}

// wantNone fails if there is an event, or the end, by now.
func (f *follower) wantNone() {
	f.t.Helper()
	select {
	case e, ok := <-f.events:
		f.t.Errorf("event %v (open %t), want none", e, ok)
	default:
	}
}

// say appends entries of one type with these summaries to a feed, through this
// server's process.
func (w *world) say(ws storage.WorkspaceID, kind string, summaries ...string) []metadata.Entry {
	w.t.Helper()
	return sayThrough(w.t, w.activity, ws, kind, summaries...)
}

// sayElsewhere is say as a process does that this server hears nothing of, but
// for the database.
func (w *world) sayElsewhere(ws storage.WorkspaceID, kind string, summaries ...string) []metadata.Entry {
	w.t.Helper()
	return sayThrough(w.t, metadata.NewActivity(metadata.ActivityConfig{DB: w.pool, Notify: true}), ws, kind, summaries...)
}

func sayThrough(t *testing.T, activity *metadata.Activity, ws storage.WorkspaceID, kind string, summaries ...string) []metadata.Entry {
	t.Helper()
	entries := make([]metadata.NewEntry, len(summaries))
	for i := range summaries {
		entries[i] = metadata.NewEntry{ActivityType: kind, Summary: &summaries[i]}
	}
	written, err := activity.Append(t.Context(), ws, entries...)
	if err != nil {
		t.Fatal(err)
	}
	return written
}

// feedHook is a database that lets a test in between.
type feedHook struct {
	metadata.DB
	before func(sql string) error // of each query; an error is the query's
	after  func(sql string)       // once a query's rows are read
}

func (h *feedHook) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if h.before != nil {
		if err := h.before(sql); err != nil {
			return nil, err
		}
	}
	rows, err := h.DB.Query(ctx, sql, args...)
	if err != nil || h.after == nil {
		return rows, err
	}
	return &hookedRows{Rows: rows, closed: func() { h.after(sql) }}, nil
}

type hookedRows struct {
	pgx.Rows
	closed func()
}

func (r *hookedRows) Close() {
	r.Rows.Close()
	if closed := r.closed; closed != nil {
		r.closed = nil
		closed()
	}
}

// isPage tells the statement that reads a page.
func isPage(sql string) bool { return strings.Contains(sql, "JOIN LATERAL") }

// never is a time between rounds after which no test waits any more.
const never = time.Hour

// direct listens as it is.
func direct(dial dialFunc) dialFunc { return dial }
