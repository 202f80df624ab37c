package adopting

import (
	"database/sql"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads"
	"github.com/molecule-ai/pendinguploads/metadata"
)

// A trigger that keeps whoever deletes a row, with the row locked, for as long as
// another session holds the advisory lock.
const slowDelete = `
CREATE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1);
    RETURN OLD;
END $$;
CREATE TRIGGER wait_for_test BEFORE DELETE ON pending_uploads FOR EACH ROW EXECUTE FUNCTION wait_for_test();`

// Sweeps of old and new binaries that meet in the middle: each row is counted by
// one of them.
func TestTwoSweepsCountEveryRowOnce(t *testing.T) {
	t.Parallel()
	binaries := map[string]func(p *platform) pendinguploads.FullStorage{"old": old, "NewPostgres": inline, "NewS3": s3}
	for firstName, first := range binaries {
		for secondName, second := range binaries {
			t.Run(firstName+" then "+secondName, func(t *testing.T) {
				t.Parallel()
				p := newPlatform(t, "postgres")
				p.migrate(t)
				const each = 20
				for i := range 2 * each {
					id := put(t, []pendinguploads.Storage{p.old, p.s3}[i%2], "x")
					if i < each {
						p.exec(t, `UPDATE pending_uploads SET acked_at = now() - interval '1 day' WHERE file_id = $1`, id)
					} else {
						p.exec(t, `UPDATE pending_uploads SET expires_at = now() - interval '1 second' WHERE file_id = $1`, id)
					}
				}
				p.exec(t, slowDelete)
				gate, err := p.db.Conn(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer gate.Close()
				lock(t, gate, "pg_advisory_lock")

				swept := make(chan pendinguploads.SweepResult, 2)
				start := func(by pendinguploads.Sweeper) {
					go func() {
						r, err := by.Sweep(t.Context(), time.Hour)
						if err != nil {
							t.Error(err)
						}
						swept <- r
					}()
				}
				start(first(p))
				eventually(t, func() bool { return p.waiting(t) == 1 })
				start(second(p))
				eventually(t, func() bool { return p.waiting(t) == 2 || len(swept) == 1 })
				lock(t, gate, "pg_advisory_unlock")

				a, b := <-swept, <-swept
				if a.Acked+b.Acked != each || a.Expired+b.Expired != each {
					t.Errorf("%+v and %+v, want %d of each kind together", a, b, each)
				}
				if n := p.count(t, `SELECT count(*) FROM pending_uploads`); n != 0 {
					t.Errorf("%d rows are left", n)
				}
				// What old sweeps took has left its objects, the others have none.
				p.wantOrphans(t, len(p.keys(t)))
			})
		}
	}
}

func lock(t *testing.T, conn *sql.Conn, function string) {
	t.Helper()
	if _, err := conn.ExecContext(t.Context(), `SELECT `+function+`(1)`); err != nil {
		t.Fatal(err)
	}
}

// waiting counts the sessions that wait for a lock.
func (p *platform) waiting(t *testing.T) int {
	t.Helper()
	return p.count(t, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)
}

// Rows that a NewS3 sweep has marked, and not removed yet, are nobody's problem: old
// binaries do not know the mark, and do what they would do to rows that are due.
func TestRowsThatASweepHasMarked(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, "postgres")
	p.migrate(t)
	acked, expired, object := put(t, p.old, "acked"), put(t, p.old, "expired"), put(t, p.s3, "object")
	p.exec(t, `UPDATE pending_uploads SET acked_at = now() - interval '2 hours' WHERE file_id <> $1`, expired)
	p.exec(t, `UPDATE pending_uploads SET expires_at = now() - interval '1 second' WHERE file_id = $1`, expired)
	// As a sweep leaves them that dies here.
	marker := metadata.NewUploads(metadata.UploadsConfig{DB: metadata.FromSQL(p.db)})
	if n, err := marker.MarkDue(t.Context(), time.Hour, 100); err != nil || n != 3 {
		t.Fatalf("%d rows marked, %v", n, err)
	}
	later := pendinguploads.NewPostgres(p.db, quiet, pendinguploads.WithReadAfterAck())
	s3Later := pendinguploads.NewS3(p.db, p.objects, quiet, pendinguploads.WithReadAfterAck())
	for _, c := range []struct {
		what string
		id   uuid.UUID
		by   pendinguploads.Storage
		get  string // content; empty: not found
		ack  bool
	}{
		{"old", acked, p.old, "", true},
		{"NewPostgres", acked, p.inline, "", true},
		{"NewPostgres, readable after ack", acked, later, "acked", true},
		{"NewS3", acked, p.s3, "", false},
		{"NewS3, readable after ack", acked, s3Later, "", false},
		{"old, object", object, p.old, "", true},
		{"NewS3, object, readable after ack", object, s3Later, "", false},
		{"old, expired", expired, p.old, "", false},
		{"NewPostgres, expired", expired, p.inline, "", false},
		{"NewS3, expired", expired, p.s3, "", false},
	} {
		r, err := c.by.Get(t.Context(), c.id)
		if string(r.Content) != c.get || (err == nil) != (c.get != "") {
			t.Errorf("%s: Get: %q, %v", c.what, r.Content, err)
		}
		if err := c.by.Ack(t.Context(), c.id); (err == nil) != c.ack {
			t.Errorf("%s: Ack: %v", c.what, err)
		}
	}

	if r, err := p.old.Sweep(t.Context(), time.Hour); err != nil || r != (pendinguploads.SweepResult{Acked: 2, Expired: 1}) {
		t.Errorf("old sweep: %+v, %v", r, err)
	}
	if r, err := p.s3.Sweep(t.Context(), time.Hour); err != nil || r.Total() != 0 {
		t.Errorf("NewS3 sweep after it: %+v, %v", r, err)
	}
	p.wantOrphans(t, 1)
}
