package migrations_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/migrations"
)

var both = []migrations.Set{migrations.Uploads, migrations.Service}

func TestUpDownUpAgain(t *testing.T) {
	t.Parallel()
	url := devstack.EmptyDatabase(t)
	conn := connect(t, url)
	up := func() {
		t.Helper()
		applied, err := migrations.Up(t.Context(), url, both...)
		if err != nil {
			t.Fatal(err)
		}
		if len(applied) < 2 || applied[0].Set != migrations.Uploads || applied[len(applied)-1].Set != migrations.Service || applied[0].Down {
			t.Errorf("applied %+v", applied)
		}
		if err := migrations.Check(t.Context(), url, both...); err != nil {
			t.Errorf("check: %v", err)
		}
		if again, err := migrations.Up(t.Context(), url, both...); err != nil || len(again) != 0 {
			t.Errorf("a second time: %+v, %v; want nothing", again, err)
		}
	}
	up()
	first := schema(t, conn)
	if len(first) == 0 {
		t.Fatal("no schema")
	}
	for step := 0; ; step++ {
		rolled, err := migrations.Down(t.Context(), url, both...)
		if err != nil {
			t.Fatal(err)
		}
		if len(rolled) == 0 {
			break
		}
		if step == 0 && (rolled[0].Set != migrations.Service || !rolled[0].Down) {
			t.Errorf("rolled back %+v first, want the newest set", rolled[0])
		}
	}
	if left := schema(t, conn); len(left) != 0 {
		t.Errorf("left after down:\n%s", strings.Join(left, "\n"))
	}
	up()
	if diff := cmp.Diff(first, schema(t, conn)); diff != "" {
		t.Errorf("schema after up, down, up (-first +second):\n%s", diff)
	}
}

func TestStatusAndCheck(t *testing.T) {
	t.Parallel()
	url := devstack.EmptyDatabase(t)
	conn := connect(t, url)
	statuses := func() (applied, pending int) {
		t.Helper()
		list, err := migrations.GetStatus(t.Context(), url, both...)
		if err != nil {
			t.Fatal(err)
		}
		if list[0].Set != migrations.Uploads || list[0].Version != 1 || list[0].Name != "00001_pending_uploads.sql" {
			t.Errorf("first status %+v", list[0])
		}
		for _, s := range list {
			if s.Applied != !s.AppliedAt.IsZero() {
				t.Errorf("status %+v", s)
			}
			if s.Applied {
				applied++
			} else {
				pending++
			}
		}
		return applied, pending
	}
	if applied, pending := statuses(); applied != 0 || pending < 2 {
		t.Errorf("empty database: %d applied, %d pending", applied, pending)
	}
	refused := func(want error, words ...string) {
		t.Helper()
		err := migrations.Check(t.Context(), url, both...)
		if !errors.Is(err, want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("check: %v, want %v in one line", err, want)
			return
		}
		for _, word := range words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("check: %q lacks %q", err, word)
			}
		}
	}
	refused(migrations.ErrOutdated, `"uploads"`, "version 0", "pendinguploads migrate up")
	if n := query[int](t, conn, `SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace`); n != 0 {
		t.Errorf("looking made %d relations", n)
	}
	if _, err := migrations.Up(t.Context(), url, migrations.Uploads); err != nil {
		t.Fatal(err)
	}
	refused(migrations.ErrOutdated, `"service"`)
	if _, err := migrations.Up(t.Context(), url, migrations.Service); err != nil {
		t.Fatal(err)
	}
	if applied, pending := statuses(); pending != 0 || applied < 2 {
		t.Errorf("migrated database: %d applied, %d pending", applied, pending)
	}
	exec(t, conn, `INSERT INTO pending_uploads_schema_service (version_id, is_applied) VALUES (900, true)`)
	refused(migrations.ErrNewer, `"service"`, "900")
}

func TestManyReplicasMigrateAtOnce(t *testing.T) {
	t.Parallel()
	url := devstack.EmptyDatabase(t)
	var mu sync.Mutex
	counts := map[migrations.Set]int{}
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			<-start
			applied, err := migrations.Up(t.Context(), url, both...)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, a := range applied {
				counts[a.Set]++
			}
		})
	}
	close(start)
	wg.Wait()
	list, err := migrations.GetStatus(t.Context(), url, both...)
	if err != nil {
		t.Fatal(err)
	}
	want := map[migrations.Set]int{}
	for _, s := range list {
		want[s.Set]++
	}
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Errorf("migrations run by all replicas together (-want +got):\n%s", diff)
	}
	if err := migrations.Check(t.Context(), url, both...); err != nil {
		t.Error(err)
	}
}

// A replica that waits for another's migration gives up when its context ends.
func TestWaitingEndsWithTheContext(t *testing.T) {
	t.Parallel()
	url := devstack.EmptyDatabase(t)
	conn := connect(t, url)
	// Whoever migrates first stops at this table and keeps the lock meanwhile.
	exec(t, conn, `CREATE TABLE pending_uploads (content bytea)`)
	exec(t, conn, `BEGIN`)
	exec(t, conn, `LOCK TABLE pending_uploads`)
	first := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		_, err := migrations.Up(ctx, withLockTimeout(t, url, "10min"), migrations.Uploads)
		first <- err
	}()
	watch := connect(t, url)
	waiters := func(kind string) int {
		return query[int](t, watch, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = $1`, kind)
	}
	eventually(t, func() bool { return waiters("relation") > 0 })
	second := make(chan error, 1)
	ctx2, stop2 := context.WithCancel(t.Context())
	go func() {
		_, err := migrations.Up(ctx2, url, migrations.Service)
		second <- err
	}()
	eventually(t, func() bool { return waiters("advisory") > 0 })
	stop2()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("waiting: %v, want context.Canceled", err)
	}
	stop()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("migrating: %v, want context.Canceled", err)
	}
}

func TestLivesBesideOtherMigrations(t *testing.T) {
	t.Parallel()
	url := devstack.EmptyDatabase(t)
	conn := connect(t, url)
	exec(t, conn, `
		CREATE TABLE goose_db_version (id serial PRIMARY KEY, version_id bigint NOT NULL, is_applied boolean NOT NULL, tstamp timestamp DEFAULT now());
		INSERT INTO goose_db_version (version_id, is_applied) VALUES (0, true), (20260101, true);
		CREATE TABLE schema_migrations (version bigint PRIMARY KEY, dirty boolean NOT NULL);
		INSERT INTO schema_migrations VALUES (42, false);
		CREATE TABLE customers (id bigint PRIMARY KEY);
		INSERT INTO customers VALUES (1);`)
	before := schema(t, conn)
	// The other software holds its own migration lock all the while.
	exec(t, conn, `SELECT pg_advisory_lock(4097083626)`)
	if _, err := migrations.Up(t.Context(), url, both...); err != nil {
		t.Fatal(err)
	}
	if got := query[int64](t, conn, `SELECT max(version_id) FROM goose_db_version`); got != 20260101 {
		t.Errorf("the other version table is at %d", got)
	}
	for {
		rolled, err := migrations.Down(t.Context(), url, both...)
		if err != nil {
			t.Fatal(err)
		}
		if len(rolled) == 0 {
			break
		}
	}
	if diff := cmp.Diff(before, schema(t, conn)); diff != "" {
		t.Errorf("the other tables changed:\n%s", diff)
	}
	if got := query[int](t, conn, `SELECT count(*) FROM customers`); got != 1 {
		t.Errorf("customers has %d rows", got)
	}
}

func TestErrorsNeverShowThePassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"postgres://u:hunter2%zz@localhost/db", "host=localhost password=hunter2 port=x"} {
		for name, err := range map[string]error{
			"check": migrations.Check(t.Context(), url, both...),
			"up":    func() error { _, err := migrations.Up(t.Context(), url, both...); return err }(),
		} {
			if !errors.Is(err, migrations.ErrDatabaseURL) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: not ErrDatabaseURL, or it shows the password", name)
			}
		}
	}
	if _, err := migrations.Up(t.Context(), "postgres://u:hunter2@127.0.0.1:1/db", both...); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Error("unreachable: no error, or it shows the password")
	}
}

func TestUnknownSet(t *testing.T) {
	t.Parallel()
	url := devstack.EmptyDatabase(t)
	if _, err := migrations.Up(t.Context(), url, "nonsense"); err == nil || !strings.Contains(err.Error(), `"nonsense"`) {
		t.Errorf("unknown set: %v", err)
	}
}
