package adopting

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// contentBytes is the size of the files in the table that is migrated.
const contentBytes = 4 << 10

// BenchmarkMigrate migrates a table with rows in it, and takes it back, while four
// pollers put, get and ack. It reports how long each took, for how long the table
// was locked against everybody, and the slowest statement that a poller saw; with
// -v, all locks that kept anybody. The figures of docs/adopting.md are from
//
//	go test -run '^$' -bench Migrate -benchtime 1x -v ./test/adopting
func BenchmarkMigrate(b *testing.B) {
	for _, c := range []struct {
		rows    int
		indexes bool // made before, as the page proposes
	}{{1_000, false}, {100_000, false}, {100_000, true}} {
		b.Run(fmt.Sprintf("rows=%d/indexes=%t", c.rows, c.indexes), func(b *testing.B) {
			for b.Loop() {
				p := openDatabase(b, "postgres")
				fill(b, p.url, c.rows)
				if c.indexes {
					p.makeIndexes(b)
				}
				l := startPollers(b, p.old, p.old, p.inline, p.inline)
				l.go10(b)
				l.slow.Store(0)
				l.go10(b)
				b.ReportMetric(ms(time.Duration(l.slow.Load())), "before-slowest-ms")
				for _, way := range []struct {
					name string
					run  func() error
				}{
					{"up", func() error { p.migrate(b); return nil }},
					{"down", func() error { return p.down(b.Context()) }},
				} {
					l.slow.Store(0)
					watch := startWatch(b, p.url)
					start := time.Now()
					if err := way.run(); err != nil {
						b.Fatal(err)
					}
					took := time.Since(start)
					held := watch()
					l.go10(b) // whoever waited is through
					b.ReportMetric(ms(took), way.name+"-ms")
					b.ReportMetric(ms(held["AccessExclusiveLock"]), way.name+"-locked-ms")
					b.ReportMetric(ms(time.Duration(l.slow.Load())), way.name+"-slowest-ms")
					b.Logf("%s: %v", way.name, held)
				}
				l.stop()
			}
			b.ReportMetric(0, "ns/op") // of no interest: most of it is making the rows
		})
	}
}

// makeIndexes runs what the page has for large tables, statement by statement.
func (p *platform) makeIndexes(tb testing.TB) {
	tb.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		tb.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```sql\n")
	block, _, _ := strings.Cut(rest, "```")
	statements := strings.SplitAfter(strings.TrimSpace(block), ";")
	if len(statements) != 3 || strings.Count(block, "CREATE INDEX CONCURRENTLY IF NOT EXISTS") != 2 {
		tb.Fatalf("%s has %q as its first SQL, want two indexes", page, block)
	}
	for _, statement := range statements[:2] {
		p.exec(tb, statement)
	}
}

// The indexes of the page are those that the migration would make.
func TestIndexesMadeBefore(t *testing.T) {
	t.Parallel()
	const indexes = `SELECT string_agg(indexdef, E'\n' ORDER BY indexname) FROM pg_indexes WHERE tablename = 'pending_uploads'`
	var got [2]string
	for i := range got {
		p := openDatabase(t, "postgres")
		if i == 1 {
			p.makeIndexes(t)
			if n := p.count(t, `SELECT count(*) FROM pg_indexes WHERE indexname IN ('idx_pending_uploads_acked', 'idx_pending_uploads_file')`); n != 2 {
				t.Errorf("%d of the indexes are made", n)
			}
		}
		p.migrate(t)
		if err := p.db.QueryRowContext(t.Context(), indexes).Scan(&got[i]); err != nil {
			t.Fatal(err)
		}
	}
	if got[0] != got[1] {
		t.Errorf("with indexes made before:\n%s\nwithout:\n%s", got[1], got[0])
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// fill stages rows, a third of them acked, in one COPY.
func fill(b *testing.B, url string, rows int) {
	b.Helper()
	conn := connect(b, url)
	random := rand.NewChaCha8([32]byte{})
	n := 0
	_, err := conn.CopyFrom(b.Context(), pgx.Identifier{"pending_uploads"},
		[]string{"workspace_id", "content", "size_bytes", "filename", "acked_at"},
		pgx.CopyFromFunc(func() ([]any, error) {
			if n++; n > rows {
				return nil, nil
			}
			content := make([]byte, contentBytes)
			_, _ = random.Read(content)
			var acked *time.Time
			if n%3 == 0 {
				acked = new(time.Now())
			}
			return []any{uuid.New(), content, contentBytes, "a.bin", acked}, nil
		}))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := conn.Exec(b.Context(), `VACUUM ANALYZE pending_uploads`); err != nil {
		b.Fatal(err)
	}
}

func connect(b *testing.B, url string) *pgx.Conn {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close(context.WithoutCancel(b.Context())) })
	return conn
}

// heldFor is how long locks of each kind were held.
type heldFor map[string]time.Duration

func (h heldFor) String() string {
	var parts []string
	for mode, d := range h {
		parts = append(parts, fmt.Sprintf("%s for %v", mode, d.Round(time.Millisecond)))
	}
	sort.Strings(parts)
	return strings.Join(parts, ", ")
}

// Locks that statements on rows do not take, on the table.
const strongLocks = `
SELECT DISTINCT l.mode
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'relation' AND l.relation = $1 AND l.granted AND a.backend_type = 'client backend'
  AND l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')`

// startWatch looks at the locks on the table, all the time, until it is told to
// stop, and tells what there was.
func startWatch(b *testing.B, url string) (stop func() heldFor) {
	b.Helper()
	conn := connect(b, url)
	var table uint32
	if err := conn.QueryRow(b.Context(), `SELECT 'pending_uploads'::regclass::oid`).Scan(&table); err != nil {
		b.Fatal(err)
	}
	look := func() ([]string, error) {
		rows, err := conn.Query(b.Context(), strongLocks, table)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if _, err := look(); err != nil { // the first one takes longer
		b.Fatal(err)
	}
	quit, done := make(chan struct{}), make(chan error, 1)
	held := heldFor{}
	go func() {
		for last := time.Now(); ; {
			select {
			case <-quit:
				done <- nil
				return
			default:
			}
			modes, err := look()
			if err != nil {
				done <- err
				return
			}
			now := time.Now()
			for _, mode := range modes {
				held[mode] += now.Sub(last)
			}
			last = now
		}
	}()
	return func() heldFor {
		close(quit)
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		return held
	}
}
