package doctor_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/molecule-ai/pendinguploads/internal/doctor"
	"github.com/molecule-ai/pendinguploads/internal/server"
	"github.com/molecule-ai/pendinguploads/migrations"
)

// withoutDatabase is what a database that cannot be used leaves.
func withoutDatabase() others {
	return others{"database": doctor.Failure}.skipped(
		"database version", "database rights", "schema", "database clock", "database connections", "notifications", "corrupt files")
}

// change rewrites DATABASE_URL.
func (w *world) change(t *testing.T, f func(u *url.URL)) {
	t.Helper()
	u, err := url.Parse(w.settings.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	f(u)
	w.settings.DatabaseURL = u.String()
}

// login makes a user who may do nothing, and has doctor use it. It goes with the
// test.
func (w *world) login(t *testing.T, options string) (role string) {
	t.Helper()
	role = "doctor_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	w.exec(t, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD 'of-the-test' %s", role, options))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		conn, err := pgx.Connect(ctx, w.database)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, "DROP OWNED BY "+role+"; DROP ROLE "+role); err != nil {
			t.Error(err)
		}
	})
	w.change(t, func(u *url.URL) { u.User = url.UserPassword(role, "of-the-test") })
	return role
}

func TestDatabaseThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(t *testing.T, w *world)
		says  []string
	}{
		"wrong password": {func(t *testing.T, w *world) {
			w.change(t, func(u *url.URL) { u.User = url.UserPassword(u.User.Username(), "wrong-word") })
		}, []string{"28P01", "user and password"}},
		"no such database": {func(t *testing.T, w *world) {
			w.change(t, func(u *url.URL) { u.Path = "/absent" })
		}, []string{"3D000", "create the database"}},
		"may not connect": {func(t *testing.T, w *world) {
			w.login(t, "")
			w.exec(t, `DO $$ BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database()); END $$`)
		}, []string{"42501", "GRANT CONNECT"}},
		"too many connections": {func(t *testing.T, w *world) {
			w.login(t, "CONNECTION LIMIT 0")
		}, []string{"53300", "connection limit"}},
		"nobody there": {func(t *testing.T, w *world) {
			w.change(t, func(u *url.URL) { u.Host = closed(t) })
		}, []string{"connect", "host, port"}},
		"not a URL": {func(t *testing.T, w *world) {
			w.settings.DatabaseURL = "postgres://u:wrong-word%zz@h/x"
		}, []string{"percent-encoded"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.spoil(t, w)
			r := found(t, w.run(t), withoutDatabase())["database"]
			says(t, r, c.says...)
			if strings.Contains(r.String(), "wrong-word") || strings.Contains(r.String(), "of-the-test") {
				t.Errorf("the password in %q", r)
			}
		})
	}
}

// closed is an address at which nobody listens.
func closed(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return addr
}

func TestDatabaseVersion(t *testing.T) {
	t.Parallel()
	for version, status := range map[string]doctor.Status{
		"14.11 (Debian 14.11-1)": doctor.Failure,
		"15beta1":                doctor.OK,
		"something":              doctor.Warning,
	} {
		w := newWorld(t)
		w.between(t, func(kind byte, body []byte) []byte {
			if kind == 'S' && bytes.HasPrefix(body, []byte("server_version\x00")) {
				return []byte("server_version\x00" + version + "\x00")
			}
			return body
		})
		want := others{}
		if status != doctor.OK {
			want["database version"] = status
		}
		says(t, found(t, w.run(t), want)["database version"], version)
	}
}

func TestDatabaseRights(t *testing.T) {
	t.Parallel()
	const all = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public"
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.login(t, "")
		r := found(t, w.run(t), others{"database rights": doctor.Failure}.skipped("schema", "corrupt files"))["database rights"]
		says(t, r, "activity_logs (DELETE, INSERT, SELECT, UPDATE)", "pending_uploads_schema_service (SELECT)", "GRANT")
	})
	t.Run("one is missing", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		role := w.login(t, "")
		w.exec(t, "GRANT "+all+" TO "+role, "REVOKE DELETE ON activity_logs FROM "+role)
		r := found(t, w.run(t), others{"database rights": doctor.Failure}.skipped("schema", "corrupt files"))["database rights"]
		says(t, r, "the user lacks activity_logs (DELETE) — fix")
	})
	t.Run("no more than needed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		role := w.login(t, "")
		w.exec(t, "GRANT "+all+" TO "+role)
		found(t, w.run(t), nil)
	})
}

func TestSchema(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(t *testing.T, w *world)
		says  []string
	}{
		"old": {func(t *testing.T, w *world) {
			if _, err := migrations.Down(t.Context(), w.database, server.Sets()...); err != nil {
				t.Fatal(err)
			}
		}, []string{"outdated", "migrate up"}},
		"new": {func(t *testing.T, w *world) {
			w.exec(t, `INSERT INTO pending_uploads_schema_service (version_id, is_applied) VALUES (999, true)`)
		}, []string{"newer", "999"}},
		"without a table": {func(t *testing.T, w *world) {
			w.exec(t, `DROP TABLE inbox_delivery_state`)
		}, []string{"inbox_delivery_state cannot be seen", "search_path"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.spoil(t, w)
			says(t, found(t, w.run(t), others{"schema": doctor.Failure}.skipped("corrupt files"))["schema"], c.says...)
		})
	}
}

// The database's clock is another one for those who ask by the name alone.
func TestDatabaseClock(t *testing.T) {
	t.Parallel()
	for by, status := range map[string]doctor.Status{
		"20 seconds": doctor.Warning, "-20 seconds": doctor.Warning, "10 minutes": doctor.Failure, "-1 hour": doctor.Failure,
	} {
		w := newWorld(t)
		w.exec(t, `CREATE SCHEMA wrong`,
			fmt.Sprintf(`CREATE FUNCTION wrong.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT pg_catalog.clock_timestamp() + interval '%s' $$`, by),
			`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = wrong, pg_catalog, public', current_database()); END $$`)
		direction := "ahead of"
		if strings.HasPrefix(by, "-") {
			direction = "behind"
		}
		says(t, found(t, w.run(t), others{"database clock": status})["database clock"], direction, "NTP")
	}
}

func TestDatabaseConnections(t *testing.T) {
	t.Parallel()
	t.Run("more than allowed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.settings.DatabaseMaxConns = 100_000
		says(t, found(t, w.run(t), others{"database connections": doctor.Failure})["database connections"], "100001", "DATABASE_MAX_CONNS")
	})
	t.Run("more than the user may", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		role := w.login(t, "CONNECTION LIMIT 10")
		w.exec(t, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "+role)
		says(t, found(t, w.run(t), others{"database connections": doctor.Failure})["database connections"], "up to 17", "allows 10")
	})
	t.Run("others have them", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		var allowed int32
		for i := range 3 { // that are held
			conn, err := pgx.Connect(t.Context(), w.database)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context())
			const sql = `SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int - coalesce(current_setting('reserved_connections', true)::int, 0)`
			if err := conn.QueryRow(t.Context(), sql).Scan(&allowed); err != nil {
				t.Fatal(i, err)
			}
		}
		w.settings.DatabaseMaxConns = allowed - 1 // and one that listens
		says(t, found(t, w.run(t), others{"database connections": doctor.Warning})["database connections"], "others use")
	})
}

// Through a pooler in transaction mode LISTEN is accepted and nothing comes.
func TestNotifications(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.between(t, func(kind byte, body []byte) []byte {
		if kind == 'A' {
			return nil
		}
		return body
	})
	says(t, found(t, w.run(t), others{"notifications": doctor.Warning})["notifications"], "NOTIFY does not arrive", "FEED_NOTIFY=off")
	w.settings.FeedNotify = "off"
	says(t, found(t, w.run(t), nil)["notifications"], "FEED_NOTIFY is off")
}

func TestCorruptFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(t, `INSERT INTO pending_uploads (workspace_id, content, size_bytes, filename, corrupt_at) VALUES (gen_random_uuid(), 'x', 1, 'x', now())`)
	says(t, found(t, w.run(t), others{"corrupt files": doctor.Failure})["corrupt files"], "1 file ", "corrupt_at")
}

func TestSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.settings.OrphanGrace = w.settings.MaxUploadTime
	says(t, found(t, w.run(t), others{"settings": doctor.Failure})["settings"], "ORPHAN_GRACE", "does not start")

	w = newWorld(t)
	w.settings.Registration, w.settings.AdminToken = "open", "short-token"
	r := found(t, w.run(t), others{"settings": doctor.Warning})["settings"]
	says(t, r, "REGISTRATION is open", "ADMIN_TOKEN")
	if strings.Contains(r.String(), "short-token") {
		t.Errorf("a token in %q", r)
	}

	w = newWorld(t)
	w.settings.DatabaseURL = ""
	want := withoutDatabase().skipped("database")
	want["settings"] = doctor.Failure
	says(t, found(t, w.run(t), want)["settings"], "DATABASE_URL is missing")
}
