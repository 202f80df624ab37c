package metadata_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// numbered is a recorder of statements whose arguments have numbers.
type numbered struct {
	metadata.DB
	last *recorder
}

func (n numbered) keep(sql string, args []any) {
	n.last.sql, n.last.args = sql, pgx.NamedArgs{}
	for i, arg := range args {
		name := fmt.Sprint("p", i+1)
		n.last.sql = strings.ReplaceAll(n.last.sql, fmt.Sprint("$", i+1), "@"+name)
		n.last.args[name] = arg
	}
}

func (n numbered) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	n.keep(sql, args)
	return n.DB.QueryRow(ctx, sql, args...)
}

func (n numbered) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	n.keep(sql, args)
	return n.DB.Exec(ctx, sql, args...)
}

// Whoever names an upload reads its row alone, also where PostgreSQL knows nothing
// of the table yet and its guesses favour the indexes that the sweep goes by.
func TestOneUploadIsFoundByItsKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(t, `ALTER TABLE pending_uploads SET (autovacuum_enabled = off)`)
	w.exec(t, `
		INSERT INTO pending_uploads (workspace_id, content, size_bytes, filename)
		SELECT $1, 'x', 1, 'f' FROM generate_series(1, 3000) n`, uuid.UUID(w.ws))
	id := storage.FileID(query[uuid.UUID](t, w.pool, `SELECT file_id FROM pending_uploads LIMIT 1`))
	for key, anyWorkspace := range map[string]bool{"pending_uploads_pkey": false, "idx_pending_uploads_file": true} {
		last := &recorder{DB: w.pool}
		u := metadata.NewUploads(metadata.UploadsConfig{DB: numbered{w.pool, last}, AnyWorkspace: anyWorkspace})
		for _, step := range []struct {
			name string
			call func() error
		}{
			{"Get", func() error { _, err := u.Get(t.Context(), w.ws, id); return err }},
			{"GetContent", func() error { _, _, err := u.GetContent(t.Context(), w.ws, id); return err }},
			{"GetFetched", func() error { _, err := u.GetFetched(t.Context(), w.ws, id); return err }},
			{"MarkFetched", func() error { return u.MarkFetched(t.Context(), w.ws, id) }},
			{"Ack", func() error { return u.Ack(t.Context(), w.ws, id) }},
		} {
			t.Run(key+"/"+step.name, func(t *testing.T) {
				if err := step.call(); err != nil {
					t.Fatal(err)
				}
				w.exec(t, `UPDATE pending_uploads SET acked_at = NULL WHERE acked_at IS NOT NULL`)
				last.explain(t, w, func(t *testing.T, p plan) {
					if indexes := p.scans(t); !slices.Equal(indexes, []string{key}) {
						t.Errorf("scans %v, want %s", indexes, key)
					}
					p.walk(func(n plan) {
						if n.Removed > 0 {
							t.Errorf("%s reads %v rows of others", n.Node, n.Removed)
						}
					})
				})
			})
		}
	}
}
