package devstack_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

func TestDatabasesAreSeparate(t *testing.T) {
	t.Parallel()
	one, two := devstack.EmptyDatabase(t), devstack.EmptyDatabase(t)
	run(t, one, "CREATE TABLE only_here (id int)")
	run(t, two, "CREATE TABLE only_here (id int)")
}

func TestDatabaseIsMigratedAndSeparate(t *testing.T) {
	t.Parallel()
	one, two := devstack.Database(t), devstack.Database(t)
	run(t, one, "CREATE TABLE only_here (id int)")
	run(t, two, "CREATE TABLE only_here (id int)")
	for _, databaseURL := range []string{one, two} {
		run(t, databaseURL, "SELECT workspace_id FROM pending_uploads")
		run(t, databaseURL, "SELECT id FROM workspaces")
	}
}

func run(t *testing.T, databaseURL, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func TestEachS3(t *testing.T) {
	t.Parallel()
	devstack.EachS3(t, func(t *testing.T, s3 devstack.S3) {
		putAndGet(t, s3)
	})
}
