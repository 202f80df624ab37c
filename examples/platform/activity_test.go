package main

import (
	"net/http"
	"slices"
	"testing"

	"github.com/google/uuid"
)

func (c client) ids(query string) []uuid.UUID {
	c.t.Helper()
	ids := []uuid.UUID{}
	for _, e := range c.feed(query) {
		ids = append(ids, e.ID)
	}
	return ids
}

func TestFeed(t *testing.T) {
	t.Parallel()
	b := openBackend(t)
	base, _ := b.run(t)
	c, other := client{t, base, uuid.New()}, client{t, base, uuid.New()}
	foreign := func() uuid.UUID { other.upload(file{"x", "", []byte("x")}); return other.feed("")[0].ID }()
	c.upload(file{"a", "", []byte("a")}, file{"b", "", []byte("b")})
	c.upload(file{"c", "", []byte("c")})
	newest := c.ids("")
	if len(newest) != 3 {
		t.Fatalf("%d entries, want 3", len(newest))
	}
	all := slices.Clone(newest)
	slices.Reverse(all)
	for query, want := range map[string][]uuid.UUID{
		"?type=a2a_receive":            newest,
		"?type=notify":                 {},
		"?limit=2":                     newest[:2],
		"?limit=0":                     newest,
		"?limit=501":                   newest,
		"?since_secs=600":              newest,
		"?since_secs=99999999999":      newest,
		"?since_id=" + all[0].String(): all[1:],
		"?since_id=" + all[0].String() + "&limit=1":       all[1:2],
		"?since_id=" + all[2].String() + "&since_secs=60": {},
	} {
		if got := c.ids(query); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	for _, cursor := range []string{uuid.Nil.String(), foreign.String(), "no-uuid", ""} {
		c.do(http.MethodGet, "/activity?since_id="+cursor).want(t, http.StatusGone, "since_id")
	}
	for _, secs := range []string{"0", "-1", "x", ""} {
		c.do(http.MethodGet, "/activity?since_secs="+secs).want(t, http.StatusBadRequest, "since_secs must be a positive integer")
	}
	other.do(http.MethodGet, "/activity").want(t, http.StatusOK, `"source_id":null`, `"duration_ms":null`, `"error_detail":null`,
		`"target_id":"`+other.ws.String()+`"`, `"mimeType":""`, `"status":"ok"`)

	if _, err := b.db.ExecContext(t.Context(), `UPDATE activity_logs SET created_at = now() - interval '1 hour' WHERE id = $1`, all[0]); err != nil {
		t.Fatal(err)
	}
	if got := c.ids("?since_secs=600"); !slices.Equal(got, newest[:2]) {
		t.Errorf("entries of the last ten minutes: %v, want %v", got, newest[:2])
	}
}

// While one writer of a feed has not committed, no later one gets past it: a reader
// would take the later entry for its cursor and never see the earlier.
func TestFeedEntriesCommitInOrder(t *testing.T) {
	t.Parallel()
	b := openBackend(t)
	base, _ := b.run(t)
	c := client{t, base, uuid.New()}
	c.upload(file{"first", "", []byte("x")}) // the tables are there
	slow, err := b.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slow.Rollback() }()
	if err := logUploads(t.Context(), slow, c.ws, []upload{{Name: "slow"}}); err != nil {
		t.Fatal(err)
	}
	done := make(chan reply, 1)
	go func() {
		defer close(done) // also where the request fails
		done <- c.post(file{"fast", "", []byte("x")})
	}()
	waitFor(t, "the second upload to wait for the first", func() bool {
		select {
		case <-done:
			t.Fatal("the second upload did not wait for the first")
		default:
		}
		return b.count(t, `pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) == 1
	})
	if err := slow.Commit(); err != nil {
		t.Fatal(err)
	}
	(<-done).want(t, http.StatusOK)
	var names []string
	for _, e := range c.feed("") {
		names = append(names, e.RequestBody.Name)
	}
	if !slices.Equal(names, []string{"fast", "slow", "first"}) {
		t.Errorf("entries, newest first: %v", names)
	}
}
