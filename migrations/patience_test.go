package migrations_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/migrations"
)

// withLockTimeout is the database with a lock_timeout for its sessions.
func withLockTimeout(t *testing.T, databaseURL, timeout string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("lock_timeout", timeout)
	u.RawQuery = q.Encode()
	return u.String()
}

// waiting counts who waits to have pending_uploads alone.
func waiting(t *testing.T, conn *pgx.Conn) int {
	t.Helper()
	return query[int](t, conn, `SELECT count(*) FROM pg_locks
		WHERE relation = 'pending_uploads'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted`)
}

// A reader that takes its time keeps the migration waiting, and whoever comes after
// the migration waits behind it: not for as long as the reader takes.
func TestALongReaderAndAMigrationHoldUpNobody(t *testing.T) {
	t.Parallel()
	databaseURL := devstack.EmptyDatabase(t)
	reader, other, watch := connect(t, databaseURL), connect(t, databaseURL), connect(t, databaseURL)
	exec(t, reader, later)
	exec(t, reader, insertReferenceRows)
	rows := rowsOf(t, reader)
	exec(t, reader, `BEGIN`)
	exec(t, reader, `SELECT FROM pending_uploads`)
	migrated := make(chan error, 1)
	go func() {
		_, err := migrations.Up(t.Context(), databaseURL, migrations.Uploads)
		migrated <- err
	}()
	eventually(t, func() bool { return waiting(t, watch) > 0 })

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := other.Exec(ctx, `UPDATE pending_uploads SET fetched_at = NULL`); err != nil {
		t.Fatalf("a statement behind the migration, which waits for a reader: %v", err)
	}
	select {
	case err := <-migrated:
		t.Fatalf("the migration did not wait: %v", err)
	default:
	}
	exec(t, reader, `COMMIT`)
	if err := <-migrated; err != nil {
		t.Errorf("the migration, once the reader is done: %v", err)
	}
	if diff := cmp.Diff(rows, rowsOf(t, reader)); diff != "" {
		t.Errorf("rows changed (-before +after):\n%s", diff)
	}
}

func TestATableThatStaysLockedIsAClearError(t *testing.T) {
	t.Parallel()
	databaseURL := devstack.EmptyDatabase(t)
	holder, watch := connect(t, databaseURL), connect(t, databaseURL)
	impatient := withLockTimeout(t, databaseURL, "20ms")
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, migrations.ErrTableInUse) || !strings.Contains(err.Error(), "pg_locks") {
			t.Errorf("%s: %v, want ErrTableInUse with advice", what, err)
		}
	}
	exec(t, holder, later)
	exec(t, holder, `BEGIN`)
	exec(t, holder, `LOCK TABLE pending_uploads IN ACCESS SHARE MODE`)
	before := schema(t, watch)
	_, err := migrations.Up(t.Context(), impatient, both...)
	refused("up", err)
	if diff := cmp.Diff(before, schema(t, watch)); diff != "" {
		t.Errorf("the schema changed:\n%s", diff)
	}
	exec(t, holder, `COMMIT`)
	if _, err := migrations.Up(t.Context(), impatient, both...); err != nil {
		t.Fatalf("up, with the table free: %v", err)
	}

	exec(t, holder, `BEGIN`)
	exec(t, holder, `LOCK TABLE activity_logs IN ACCESS SHARE MODE`)
	_, err = migrations.Down(t.Context(), impatient, both...)
	refused("down", err)
	exec(t, holder, `COMMIT`)
	if err := migrations.Check(t.Context(), databaseURL, both...); err != nil {
		t.Errorf("after the refusal: %v", err)
	}
}

// A short lock_timeout is for tables: another migrator is waited for.
func TestOtherMigratorsAreWaitedForWithAnyLockTimeout(t *testing.T) {
	t.Parallel()
	databaseURL := devstack.EmptyDatabase(t)
	holder, watch := connect(t, databaseURL), connect(t, databaseURL)
	exec(t, holder, later)
	exec(t, holder, `BEGIN`)
	exec(t, holder, `LOCK TABLE pending_uploads IN ACCESS SHARE MODE`)
	ended := make(chan error, 2)
	up := func(timeout string) {
		_, err := migrations.Up(t.Context(), withLockTimeout(t, databaseURL, timeout), migrations.Uploads)
		ended <- err
	}
	go up("10min")
	eventually(t, func() bool { return waiting(t, watch) > 0 })
	go up("20ms")
	eventually(t, func() bool {
		return query[int](t, watch, `SELECT count(*) FROM pg_locks
			WHERE locktype = 'advisory' AND NOT granted AND waitstart < clock_timestamp() - interval '200ms'
			  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) > 0
	})
	exec(t, holder, `COMMIT`)
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// An upload that commits while Down waits for the table is counted.
func TestDownCountsRowsThatAreAboutToCommit(t *testing.T) {
	t.Parallel()
	databaseURL := devstack.EmptyDatabase(t)
	uploader, watch := connect(t, databaseURL), connect(t, databaseURL)
	if _, err := migrations.Up(t.Context(), databaseURL, migrations.Uploads); err != nil {
		t.Fatal(err)
	}
	downToFirst(t, databaseURL)
	exec(t, uploader, `BEGIN`)
	exec(t, uploader, `INSERT INTO pending_uploads (workspace_id, object_key, size_bytes, filename) VALUES (gen_random_uuid(), 'k', 1, 'f')`)
	ended := make(chan error, 1)
	go func() {
		_, err := migrations.Down(t.Context(), withLockTimeout(t, databaseURL, "10min"), migrations.Uploads)
		ended <- err
	}()
	eventually(t, func() bool { return waiting(t, watch) > 0 })
	exec(t, uploader, `COMMIT`)
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "1 rows whose content lies in objects") {
		t.Errorf("down: %v, want a refusal that counts the row", err)
	}
	if n := query[int](t, watch, `SELECT count(*) FROM pending_uploads`); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}
