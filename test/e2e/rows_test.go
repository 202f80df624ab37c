package e2e

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/molecule-ai/pendinguploads/storage"
)

// rows is what the database says, beside the service.
type rows struct{ db *pgxpool.Pool }

// noteMoves notes every move of a row's acked_at from now on.
const noteMoves = `
CREATE TABLE ack_moves (file_id uuid NOT NULL, old timestamptz, new timestamptz);
CREATE FUNCTION note_ack_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ack_moves VALUES (OLD.file_id, OLD.acked_at, NEW.acked_at);
    RETURN NULL;
END $$;
CREATE TRIGGER note_ack_move AFTER UPDATE ON pending_uploads
    FOR EACH ROW WHEN (OLD.acked_at IS DISTINCT FROM NEW.acked_at) EXECUTE FUNCTION note_ack_move();`

func openRows(t *testing.T, database string) rows {
	t.Helper()
	db, err := pgxpool.New(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	if _, err := db.Exec(t.Context(), noteMoves); err != nil {
		t.Fatal(err)
	}
	return rows{db}
}

const countUnacked = `SELECT count(*) FROM pending_uploads WHERE acked_at IS NULL`

func (r rows) unacked(t *testing.T) (n int) {
	t.Helper()
	if err := r.db.QueryRow(t.Context(), countUnacked).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// selectMoves lists for each file how often it was acknowledged, and how often
// that was changed or taken back.
const selectMoves = `
SELECT u.filename, count(m) FILTER (WHERE m.old IS NULL), count(m) FILTER (WHERE m.old IS NOT NULL)
FROM pending_uploads u LEFT JOIN ack_moves m USING (file_id)
GROUP BY u.workspace_id, u.file_id, u.filename`

// ackedOnce wants the files to be those that the service has, each acknowledged
// once and for all.
func (r rows) ackedOnce(t *testing.T, files map[string]bool) {
	t.Helper()
	found, err := r.db.Query(t.Context(), selectMoves)
	if err != nil {
		t.Fatal(err)
	}
	var name string
	var acked, changed int
	known := map[string]bool{}
	_, err = pgx.ForEachRow(found, []any{&name, &acked, &changed}, func() error {
		known[name] = true
		if acked != 1 || changed != 0 {
			t.Errorf("%s was acknowledged %d times, and that changed %d times, want 1 and 0", name, acked, changed)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(known, files); diff != "" {
		t.Errorf("files of the service, files in the folder (-/+):\n%s", diff)
	}
}

const selectMessages = `SELECT id::text FROM activity_logs WHERE workspace_id = $1 AND method = 'message/send' ORDER BY seq`

// messages is the ids of the feed's messages, in order.
func (r rows) messages(t *testing.T, id storage.WorkspaceID) []string {
	t.Helper()
	found, err := r.db.Query(t.Context(), selectMessages, id.String())
	if err != nil {
		t.Fatal(err)
	}
	ids, err := pgx.CollectRows(found, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// handledAll wants every message to have been handled, in order, and returns how
// often one was handled again.
func handledAll(t *testing.T, messages, handled []string) (again int) {
	t.Helper()
	first, seen := []string{}, map[string]bool{}
	for _, id := range handled {
		if !seen[id] {
			first = append(first, id)
		}
		seen[id] = true
	}
	if diff := cmp.Diff(messages, first); diff != "" {
		t.Errorf("messages of the feed, messages in the order they were handled (-/+):\n%s", diff)
	}
	return len(handled) - len(first)
}
