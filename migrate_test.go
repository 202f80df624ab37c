package pendinguploads_test

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// The names that other software goes by exist after Migrate, on a new table and on
// the platform's own (contract 4.1); it may run again, and beside others.
func TestMigrateMakesTheNamedIndexesAndChecks(t *testing.T) {
	t.Parallel()
	for name, database := range map[string]func(testing.TB) string{"new": devstack.EmptyDatabase, "reference": referenceDatabase} {
		for _, driver := range []string{"postgres", "pgx"} {
			t.Run(name+" on "+driver, func(t *testing.T) {
				t.Parallel()
				db := openSQL(t, driver, database(t))
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						if err := pendinguploads.Migrate(t.Context(), db); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				rows, err := db.QueryContext(t.Context(), `
					SELECT indexname FROM pg_indexes WHERE tablename = 'pending_uploads'
					UNION ALL SELECT conname FROM pg_constraint WHERE conrelid = 'pending_uploads'::regclass`)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = rows.Close() }()
				var names []string
				for rows.Next() {
					var name string
					if err := rows.Scan(&name); err != nil {
						t.Fatal(err)
					}
					names = append(names, name)
				}
				if err := rows.Err(); err != nil {
					t.Fatal(err)
				}
				for _, want := range []string{"idx_pending_uploads_workspace_unacked", "idx_pending_uploads_expires", "idx_pending_uploads_acked",
					"pending_uploads_pkey", "pending_uploads_size_bytes_check"} {
					if !slices.Contains(names, want) {
						t.Errorf("there is no %s: %v", want, names)
					}
				}
			})
		}
	}
}

// NewS3 on a table that is not migrated says what to do, and leaves nothing.
func TestS3WithoutMigration(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"postgres", "pgx"} {
		for name, database := range map[string]func(testing.TB) string{"reference": referenceDatabase, "empty": devstack.EmptyDatabase} {
			db, objects := openSQL(t, driver, database(t)), openObjects(t)
			s := store{pendinguploads.NewS3(db, objects), db, objects}
			_, put := s.Put(t.Context(), uuid.New(), []byte("x"), "a", "")
			_, batch := s.PutBatch(t.Context(), uuid.New(), items([]byte("x"), []byte("y")))
			_, swept := s.Sweep(t.Context(), 0)
			for what, err := range map[string]error{
				"Put": put, "PutBatch": batch, "Get": get(t, s, uuid.New()), "Ack": s.Ack(t.Context(), uuid.New()),
				"MarkFetched": s.MarkFetched(t.Context(), uuid.New()), "Sweep": swept,
			} {
				if !errors.Is(err, pendinguploads.ErrSchema) {
					t.Errorf("%s on the %s database, %s: %v", what, name, driver, err)
				}
			}
			if keys := s.keys(t); len(keys) != 0 {
				t.Errorf("objects are left: %v", keys)
			}
		}
	}
}
