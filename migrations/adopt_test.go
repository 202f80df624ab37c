package migrations_test

import (
	_ "embed" // the reference table
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/migrations"
)

// reference is the table of contract 4.1 as other software makes it.
//
//go:embed testdata/reference.sql
var reference string

// The checks of the reference table, in the places of others.
const (
	seedSize = `CHECK (size_bytes > 0 AND size_bytes <= 26214400)`
	seedName = `CHECK (length(filename) > 0 AND length(filename) <= 100)`
)

const ackedIndex = `CREATE INDEX idx_pending_uploads_acked ON pending_uploads (acked_at) WHERE acked_at IS NOT NULL;`

// forms are the reference table as released, and as it might have been written.
var forms = map[string]string{
	"seed": reference,
	"seed with named checks": form(`CONSTRAINT cap CHECK (size_bytes > 0 AND size_bytes <= 26214400)`,
		`CONSTRAINT "a Name" CHECK (length(filename) BETWEEN 1 AND 100)`, ""),
	"seed with two size checks": form(`CHECK (size_bytes > 0) CHECK (size_bytes <= 26214400)`, ``, ""),
	"seed with checks on the table": form("", "",
		`, CHECK (size_bytes > 0 AND size_bytes <= 26214400 AND length(filename) BETWEEN 1 AND 100)`),
	"later": later,
}

var later = form(`CONSTRAINT pending_uploads_size_bytes_check CHECK (size_bytes > 0 AND size_bytes <= 104857600)`,
	`CONSTRAINT pending_uploads_filename_check CHECK (length(filename) BETWEEN 1 AND 100)`, "") + ackedIndex

func form(size, name, table string) string {
	return strings.NewReplacer(seedSize, size, seedName, name, "\n);", table+"\n);").Replace(reference)
}

const insertReferenceRows = `
INSERT INTO pending_uploads (content, workspace_id, size_bytes, filename, mimetype, acked_at)
SELECT convert_to('content ' || n, 'UTF8'), gen_random_uuid(), 9, 'f' || n, 'text/plain', CASE WHEN n % 2 = 0 THEN now() END
FROM generate_series(1, 9) n`

func rowsOf(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `
		SELECT format('%s %s %s %s %s %s %s %s %s %s', file_id, workspace_id, content, size_bytes, filename, mimetype,
		              created_at, fetched_at, acked_at, expires_at)
		FROM pending_uploads ORDER BY file_id`)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func primaryKey(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	return query[string](t, conn, `SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'pending_uploads'::regclass AND contype = 'p'`)
}

func TestAdoptsTheReferenceTable(t *testing.T) {
	t.Parallel()
	fresh := connect(t, devstack.Database(t))
	want := slices.DeleteFunc(schema(t, fresh), func(line string) bool { return !describesAdopted(line) })
	for name, create := range forms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := devstack.EmptyDatabase(t)
			conn := connect(t, url)
			exec(t, conn, create)
			exec(t, conn, insertReferenceRows)
			rows := rowsOf(t, conn)

			if _, err := migrations.Up(t.Context(), url, migrations.Uploads); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(rows, rowsOf(t, conn)); diff != "" {
				t.Errorf("rows changed (-before +after):\n%s", diff)
			}
			if got := primaryKey(t, conn); got != "PRIMARY KEY (file_id)" {
				t.Errorf("primary key is now %s", got)
			}
			got := slices.DeleteFunc(schema(t, conn), func(line string) bool { return !describesAdopted(line) })
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("schema differs from a fresh one (-fresh +adopted):\n%s", diff)
			}

			// Rows of the new kinds fit, and what the checks forbid does not.
			exec(t, conn, `INSERT INTO pending_uploads (workspace_id, object_key, sha256, size_bytes, filename)
				VALUES (gen_random_uuid(), 'k', sha256(''), 104857600, 'f')`)
			for constraint, values := range map[string]string{
				"pending_uploads_size_bytes_check": `NULL, 'k', 104857601, 'f'`,
				"pending_uploads_filename_check":   `NULL, 'k', 1, ''`,
				"pending_uploads_placement_check":  `'x', 'k', 1, 'f'`,
			} {
				_, err := conn.Exec(t.Context(), `INSERT INTO pending_uploads (workspace_id, content, object_key, size_bytes, filename) VALUES (gen_random_uuid(), `+values+`)`)
				var pgErr *pgconn.PgError
				if !errors.As(err, &pgErr) || pgErr.ConstraintName != constraint {
					t.Errorf("%s: %v", constraint, err)
				}
			}

			// Back to where it was, once no row refers to an object.
			downToFirst(t, url)
			_, err := migrations.Down(t.Context(), url, migrations.Uploads)
			if err == nil || !strings.Contains(err.Error(), "1 rows whose content lies in objects") {
				t.Fatalf("down with an object row: %v, want a refusal that says so", err)
			}
			if n := appliedVersions(t, url); n != 1 {
				t.Errorf("after the refusal: %d migrations applied, want the first", n)
			}
			exec(t, conn, `DELETE FROM pending_uploads WHERE object_key IS NOT NULL`)
			if _, err := migrations.Down(t.Context(), url, migrations.Uploads); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(rows, rowsOf(t, conn)); diff != "" {
				t.Errorf("rows changed by down (-before +after):\n%s", diff)
			}
			if diff := cmp.Diff(laterSchema(t), schema(t, conn)); diff != "" {
				t.Errorf("schema after down is not the reference's (-reference +down):\n%s", diff)
			}
			if _, err := migrations.Up(t.Context(), url, migrations.Uploads); err != nil {
				t.Errorf("up again: %v", err)
			}
			if diff := cmp.Diff(rows, rowsOf(t, conn)); diff != "" {
				t.Errorf("rows changed by the second up:\n%s", diff)
			}
		})
	}
}

// describesAdopted leaves out what an adopted table keeps of its own: its key,
// which is on file_id. The order of columns is not described.
func describesAdopted(line string) bool {
	return strings.Contains(line, "pending_uploads") && !strings.Contains(line, "pending_uploads_pkey")
}

func laterSchema(t *testing.T) []string {
	t.Helper()
	conn := connect(t, devstack.EmptyDatabase(t))
	exec(t, conn, later)
	return schema(t, conn)
}

func TestFreshTableIsKeyedByWorkspace(t *testing.T) {
	t.Parallel()
	url := devstack.EmptyDatabase(t)
	conn := connect(t, url)
	if _, err := migrations.Up(t.Context(), url, migrations.Uploads); err != nil {
		t.Fatal(err)
	}
	if got := primaryKey(t, conn); got != "PRIMARY KEY (workspace_id, file_id)" {
		t.Errorf("primary key is %s", got)
	}
	exec(t, conn, `INSERT INTO pending_uploads (workspace_id, object_key, size_bytes, filename) VALUES (gen_random_uuid(), 'k', 1, 'f')`)
	downToFirst(t, url)
	if _, err := migrations.Down(t.Context(), url, migrations.Uploads); err == nil {
		t.Error("down would leave an object behind that nobody sweeps")
	}
	exec(t, conn, `DELETE FROM pending_uploads`)
	if _, err := migrations.Down(t.Context(), url, migrations.Uploads); err != nil {
		t.Fatal(err)
	}
	if left := schema(t, conn); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// appliedVersions counts the applied migrations of the set.
func appliedVersions(t *testing.T, url string) int {
	t.Helper()
	list, err := migrations.GetStatus(t.Context(), url, migrations.Uploads)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, s := range list {
		if s.Applied {
			n++
		}
	}
	return n
}

// downToFirst rolls back what came after the set's first migration.
func downToFirst(t *testing.T, url string) {
	t.Helper()
	for appliedVersions(t, url) > 1 {
		if _, err := migrations.Down(t.Context(), url, migrations.Uploads); err != nil {
			t.Fatal(err)
		}
	}
}
