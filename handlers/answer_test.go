package handlers_test

import (
	"context"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/handlers"
)

// A database that hangs must not hang its callers.
func TestAHangingDatabaseIsAnsweredForInTime(t *testing.T) {
	t.Parallel()
	w := newServer(t, func(cfg *handlers.Config) { cfg.Timeouts.Answer = 300 * time.Millisecond })
	ws, token := w.workspace("poll")
	feed := "/workspaces/" + ws.String() + "/activity"
	for _, c := range []struct {
		table  string
		status int
		text   string
	}{
		{"workspace_auth_tokens", 503, "platform datastore unavailable — retry shortly"},
		{"activity_logs", 500, "query failed"},
	} {
		tx, err := w.pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), "LOCK TABLE "+c.table+" IN ACCESS EXCLUSIVE MODE"); err != nil {
			t.Fatal(err)
		}
		w.do("GET", feed, token, nil).want(t, c.status, c.text)
		if err := tx.Rollback(context.WithoutCancel(t.Context())); err != nil {
			t.Fatal(err)
		}
		if got := w.do("GET", feed, token, nil); got.status != 200 {
			t.Errorf("after the lock on %s: %d %s", c.table, got.status, got.body)
		}
	}
}
