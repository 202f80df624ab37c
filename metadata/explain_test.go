package metadata_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/molecule-ai/pendinguploads/metadata"
)

// recorder is a database that keeps the last statement with its arguments.
type recorder struct {
	metadata.DB
	sql  string
	args pgx.NamedArgs
}

func (r *recorder) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	r.sql, r.args = sql, args[0].(pgx.NamedArgs)
	return r.DB.Query(ctx, sql, args...)
}

func (r *recorder) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	r.sql, r.args = sql, args[0].(pgx.NamedArgs)
	return r.DB.Exec(ctx, sql, args...)
}

// plan is a node of EXPLAIN's output.
type plan struct {
	Node    string  `json:"Node Type"`
	Table   string  `json:"Relation Name"`
	Index   string  `json:"Index Name"`
	Rows    float64 `json:"Actual Rows"`
	Removed float64 `json:"Rows Removed by Filter"`
	Hit     int     `json:"Shared Hit Blocks"`
	Read    int     `json:"Shared Read Blocks"`
	Plans   []plan  `json:"Plans"`
}

func (p plan) walk(f func(plan)) {
	f(p)
	for _, child := range p.Plans {
		child.walk(f)
	}
}

// scans lists the indexes that are entered, and fails the test for any sort or
// scan of a table, except that of the one workspace that there is.
func (p plan) scans(t *testing.T) []string {
	t.Helper()
	var indexes []string
	p.walk(func(n plan) {
		switch {
		case n.Node == "Seq Scan" && n.Table != "workspaces" || n.Node == "Sort" || n.Node == "Incremental Sort":
			t.Errorf("plan has a %s", n.Node)
		case n.Index != "":
			indexes = append(indexes, n.Index)
		}
	})
	return indexes
}

// explain runs the recorded statement as a prepared one under both kinds of
// plans that the server may choose for it, each rolled back.
func (r *recorder) explain(t *testing.T, w *world, check func(t *testing.T, p plan)) {
	t.Helper()
	for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
		t.Run(mode, func(t *testing.T) {
			tx := w.begin(t)
			sql, args, err := r.args.RewriteQuery(t.Context(), tx.Conn(), r.sql, nil)
			if err != nil {
				t.Fatal(err)
			}
			literals := make([]string, len(args))
			for i, arg := range args {
				switch a := arg.(type) {
				case time.Duration:
					arg = fmt.Sprintf("%d microseconds", a.Microseconds())
				case []string:
					arg = `{"` + strings.ReplaceAll(strings.Join(a, `","`), `\`, `\\`) + `"}`
				}
				literals[i] = "'" + fmt.Sprint(arg) + "'"
			}
			for _, statement := range []string{"SET LOCAL plan_cache_mode = " + mode, "PREPARE statement AS " + sql} {
				if _, err := tx.Exec(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
			doc := query[json.RawMessage](t, tx, `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE statement(`+strings.Join(literals, ", ")+`)`)
			if _, err := tx.Exec(t.Context(), "DEALLOCATE statement"); err != nil {
				t.Fatal(err)
			}
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			var roots []struct{ Plan plan }
			if err := json.Unmarshal(doc, &roots); err != nil {
				t.Fatal(err)
			}
			check(t, roots[0].Plan)
			if t.Failed() {
				t.Logf("%s", doc)
			}
		})
	}
}

// fill gives the workspace 100,000 old entries.
func (w *world) fill(t *testing.T) {
	t.Helper()
	w.exec(t, `
		INSERT INTO activity_logs (workspace_id, seq, activity_type, source_id, method, request_body, body_bytes, created_at)
		SELECT $1, n, CASE WHEN n % 3 = 0 THEN 'a2a_send' ELSE 'a2a_receive' END, CASE WHEN n % 5 = 0 THEN gen_random_uuid() END,
		       'message/send', '{"a":1}', 7, now() - interval '20 days' + n * interval '1 second'
		FROM generate_series(1, 100000) n`, uuid.UUID(w.ws))
	w.exec(t, `UPDATE activity_feeds SET last_seq = 100000 WHERE workspace_id = $1`, uuid.UUID(w.ws))
	w.exec(t, `VACUUM ANALYZE activity_logs`)
}

func TestPollsGoThroughIndexes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(t)
	newest := query[uuid.UUID](t, w.pool, `SELECT id FROM activity_logs WHERE seq = 100000`)
	old := query[uuid.UUID](t, w.pool, `SELECT id FROM activity_logs WHERE seq = 50000`)
	before := query[time.Time](t, w.pool, `SELECT created_at FROM activity_logs WHERE seq = 50000`)
	const receive = metadata.ActivityReceive
	for name, test := range map[string]struct {
		q       metadata.Query
		rows    int
		indexes []string // any of these, after the cursor's
		buffers int      // at most
	}{
		"empty poll with cursor": {metadata.Query{Type: receive, After: &newest}, 0,
			[]string{"idx_activity_logs_type"}, 12},
		"empty poll with cursor and peers": {metadata.Query{Type: receive, After: &newest, PeerInfo: true}, 0,
			[]string{"idx_activity_logs_type"}, 12},
		"poll with cursor": {metadata.Query{Type: receive, After: &old, Limit: 10}, 10,
			[]string{"idx_activity_logs_type", "activity_logs_seq_key"}, 40},
		"empty poll with window": {metadata.Query{Type: receive, Since: 10 * time.Minute}, 0,
			[]string{"idx_activity_logs_created"}, 8},
		"newest": {metadata.Query{Type: receive, Limit: 10}, 10,
			[]string{"idx_activity_logs_type", "activity_logs_seq_key"}, 40},
		"older than": {metadata.Query{Type: receive, Before: &before, Limit: 10}, 10,
			[]string{"idx_activity_logs_created"}, 60},
	} {
		t.Run(name, func(t *testing.T) {
			recorded := &recorder{DB: w.pool}
			entries, err := metadata.NewActivity(metadata.ActivityConfig{DB: recorded}).Page(t.Context(), w.ws, test.q)
			if err != nil || len(entries) != test.rows {
				t.Fatalf("%d entries, %v; want %d", len(entries), err, test.rows)
			}
			if test.q.Before != nil {
				// fmt's form of a time is not SQL's.
				recorded.args["before"] = test.q.Before.UTC().Format(time.RFC3339Nano)
			}
			recorded.explain(t, w, func(t *testing.T, p plan) {
				indexes := slices.DeleteFunc(p.scans(t), func(name string) bool { return name == "workspaces_pkey" })
				if test.q.After != nil {
					at := slices.Index(indexes, "activity_logs_pkey")
					if at < 0 {
						t.Fatalf("the cursor is not found by its key: %v", indexes)
					}
					indexes = slices.Delete(indexes, at, at+1)
				}
				if len(indexes) != 1 || !slices.Contains(test.indexes, indexes[0]) {
					t.Errorf("scans %v, want one of %v", indexes, test.indexes)
				}
				p.walk(func(n plan) {
					if n.Index != "" && test.rows == 0 && n.Index != "activity_logs_pkey" && (n.Rows > 0 || n.Removed > 0) {
						t.Errorf("%s returned %v rows and dropped %v", n.Index, n.Rows, n.Removed)
					}
				})
				if p.Hit+p.Read > test.buffers {
					t.Errorf("touched %d buffers, want at most %d", p.Hit+p.Read, test.buffers)
				}
			})
		})
	}
}

func TestSweepGoesThroughPartialIndexes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(t, `
		INSERT INTO pending_uploads (workspace_id, file_id, object_key, size_bytes, filename, acked_at, expires_at)
		SELECT gen_random_uuid(), gen_random_uuid(), 'k', 1, 'f',
		       CASE WHEN n % 2 = 0 THEN now() END,
		       now() + interval '1 hour'
		FROM generate_series(1, 50000) n`)
	w.stage(t, nil)
	w.exec(t, `UPDATE pending_uploads SET expires_at = now() - interval '1 hour' WHERE workspace_id = $1`, uuid.UUID(w.ws))
	w.exec(t, `VACUUM ANALYZE pending_uploads`)

	recorded := &recorder{DB: w.pool}
	uploads := metadata.NewUploads(metadata.UploadsConfig{DB: recorded})
	if n, err := uploads.MarkDue(t.Context(), time.Hour, 100); err != nil || n != 1 {
		t.Fatalf("MarkDue = %d, %v; want 1", n, err)
	}
	recorded.explain(t, w, func(t *testing.T, p plan) {
		indexes := p.scans(t)
		for _, want := range []string{"idx_pending_uploads_acked", "idx_pending_uploads_expires"} {
			if !slices.Contains(indexes, want) {
				t.Errorf("scans %v, want %s among them", indexes, want)
			}
		}
		if p.Hit+p.Read > 40 {
			t.Errorf("touched %d buffers", p.Hit+p.Read)
		}
	})

	taken := &txRecorder{DB: w.pool}
	if got, err := metadata.NewUploads(metadata.UploadsConfig{DB: taken}).SweepDue(t.Context(), 100, keep); err != nil || got.Expired != 1 {
		t.Fatalf("SweepDue = %+v, %v", got, err)
	}
	taken.first.explain(t, w, func(t *testing.T, p plan) {
		if indexes := p.scans(t); !slices.Equal(indexes, []string{"idx_pending_uploads_sweeping"}) {
			t.Errorf("scans %v", indexes)
		}
	})
}

// txRecorder keeps the first query of a transaction.
type txRecorder struct {
	metadata.DB
	first recorder
}

type recordingTx struct {
	pgx.Tx
	to *txRecorder
}

func (r *txRecorder) Begin(ctx context.Context) (pgx.Tx, error) {
	tx, err := r.DB.Begin(ctx)
	return recordingTx{tx, r}, err
}

func (tx recordingTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if tx.to.first.sql == "" {
		tx.to.first.sql, tx.to.first.args = sql, args[0].(pgx.NamedArgs)
	}
	return tx.Tx.Query(ctx, sql, args...)
}

// TestFlipsGoByKey holds before the table's first ANALYZE too, when the planner
// takes one of the partial indexes for as good as the key.
func TestFlipsGoByKey(t *testing.T) {
	t.Parallel()
	for name, analyse := range map[string]bool{"analysed": true, "never analysed": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.exec(t, `ALTER TABLE pending_uploads SET (autovacuum_enabled = off)`)
			w.exec(t, `
				INSERT INTO pending_uploads (workspace_id, file_id, content, size_bytes, filename, expires_at)
				SELECT $1, gen_random_uuid(), 'x', 1, 'f', now() + interval '1 hour'
				FROM generate_series(1, 50000) n`, uuid.UUID(w.ws))
			if analyse {
				w.exec(t, `VACUUM ANALYZE pending_uploads`)
			}
			next, err := w.uploads.NextMovable(t.Context(), inlineScope(), metadata.UploadID{}, metadata.Take{Limit: 256})
			if err != nil || len(next) != 256 {
				t.Fatal(len(next), err)
			}
			var moves []metadata.ObjectMove
			for _, m := range next {
				moves = append(moves, metadata.ObjectMove{UploadID: m.UploadID, Key: "k", SHA256: movedDigest})
			}
			tx := w.begin(t)
			recorded := &recorder{DB: tx}
			if flips, err := metadata.NewUploads(metadata.UploadsConfig{DB: recorded}).MoveToObjects(t.Context(), moves...); err != nil || len(flips) != 256 {
				t.Fatal(len(flips), err)
			}
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			recorded.explain(t, w, func(t *testing.T, p plan) {
				for _, index := range p.scans(t) {
					if index != "pending_uploads_pkey" && index != "idx_pending_uploads_file" {
						t.Errorf("goes through %s", index)
					}
				}
			})
		})
	}
}
