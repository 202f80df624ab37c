package metadata_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// asking is an announcer that asks for a setting of its transaction.
type asking struct {
	setting string
	answer  *string
}

func (a asking) Announce(b *pgx.Batch, _ storage.WorkspaceID, _ []storage.Record) (func(), error) {
	b.Queue(`SELECT current_setting($1)`, a.setting).QueryRow(func(row pgx.Row) error { return row.Scan(a.answer) })
	return nil, nil
}

// The server ends the transaction of a host that is suspended before its commit,
// and keeps that to the transaction.
func TestInsertDoesNotOutliveASilentClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const setting = "idle_in_transaction_session_timeout"
	var got string
	uploads := metadata.NewUploads(metadata.UploadsConfig{DB: w.pool, Announcer: asking{setting, &got}})
	if _, err := uploads.Insert(t.Context(), w.ws, []metadata.NewUpload{newUpload(t)}); err != nil {
		t.Fatal(err)
	}
	if got != "20s" {
		t.Errorf("inside: %s, want 20s", got)
	}
	for range w.pool.Stat().TotalConns() {
		conn, err := w.pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Release()
		if err := conn.QueryRow(t.Context(), `SELECT current_setting($1)`, setting).Scan(&got); err != nil || got != "0" {
			t.Errorf("outside: %s, %v; want 0", got, err)
		}
	}
}
