package pendinguploads_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/molecule-ai/pendinguploads"
)

// losing is a driver that, once, fails an INSERT: after the server has carried it
// out, or before it is sent. Where it is carried out the repetition may fail too.
type losing struct {
	driver.Connector
	after   bool
	fail    error
	down    error // what connecting answers from then on
	refused error // what an INSERT answers from then on
	done    *atomic.Bool
}

func (l losing) Connect(ctx context.Context) (driver.Conn, error) {
	if l.down != nil && l.done.Load() {
		return nil, l.down
	}
	c, err := l.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return losingConn{c, l}, nil
}

type losingConn struct {
	driver.Conn
	l losing
}

func (c losingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	insert := strings.Contains(query, "INSERT INTO pending_uploads")
	lose := insert && c.l.done.CompareAndSwap(false, true)
	if lose && !c.l.after {
		return nil, c.l.fail
	}
	if insert && !lose && c.l.refused != nil {
		return nil, c.l.refused
	}
	rows, err := c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
	if err != nil || !lose {
		return rows, err
	}
	values := make([]driver.Value, len(rows.Columns()))
	for err == nil {
		err = rows.Next(values)
	}
	if err = errors.Join(rows.Close()); err != nil {
		return nil, err
	}
	return nil, c.l.fail
}

func (c losingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func (c losingConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
}

// An answer that is lost on its way is looked up: the file is staged once, whether
// the statement is repeated (driver.ErrBadConn) or not. While nobody can know what
// became of it the object stays, for the orphan sweep or for its row. What surely
// never arrived leaves none.
func TestPutWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	var (
		down = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		full = &pq.Error{Severity: "FATAL", Code: "53300", Message: "sorry, too many clients already"}
		sick = &pq.Error{Severity: "PANIC", Code: "58030", Message: "could not fsync file"}
		busy = &pq.Error{Severity: "ERROR", Code: "57014", Message: "canceling statement due to statement timeout"}
	)
	for name, c := range map[string]struct {
		losing        losing
		staged        bool
		rows, objects int
	}{
		"repeated after it was carried out":              {losing{after: true, fail: driver.ErrBadConn}, true, 1, 1},
		"broken after it was carried out":                {losing{after: true, fail: io.ErrUnexpectedEOF}, true, 1, 1},
		"repeated before it was sent":                    {losing{fail: driver.ErrBadConn}, true, 1, 1},
		"broken before it was sent":                      {losing{fail: io.ErrUnexpectedEOF}, false, 0, 1},
		"carried out, and the server is down then":       {losing{after: true, fail: driver.ErrBadConn, down: down}, false, 1, 1},
		"carried out, and the repetition is refused":     {losing{after: true, fail: driver.ErrBadConn, refused: busy}, true, 1, 1},
		"not carried out, and the repetition is refused": {losing{fail: driver.ErrBadConn, refused: busy}, false, 0, 1},
		"carried out, and the server panics then":        {losing{after: true, fail: sick}, true, 1, 1},
		"refused":                           {losing{fail: busy}, false, 0, 0},
		"no connection, the server is down": {losing{down: down, done: lost()}, false, 0, 0},
		"no connection, the server has too many connections": {losing{down: full, done: lost()}, false, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := migratedDatabase(t)
			connector, err := pq.NewConnector(url)
			if err != nil {
				t.Fatal(err)
			}
			c.losing.Connector = connector
			if c.losing.done == nil {
				c.losing.done = &atomic.Bool{}
			}
			db := sql.OpenDB(c.losing)
			t.Cleanup(func() { _ = db.Close() })
			objects := openObjects(t)
			uploads := pendinguploads.NewS3(db, objects, pendinguploads.WithLogger(slog.New(slog.DiscardHandler)))
			id, err := uploads.Put(t.Context(), uuid.New(), []byte("once"), "a", "")
			if (err == nil) != c.staged {
				t.Errorf("Put: %v", err)
			}
			if c.staged {
				if r, err := uploads.Get(t.Context(), id); err != nil || string(r.Content) != "once" {
					t.Errorf("%q, %v", r.Content, err)
				}
			}
			s := store{uploads, openSQL(t, "postgres", url), objects}
			if rows, keys := s.rows(t), s.keys(t); rows != c.rows || len(keys) != c.objects {
				t.Errorf("%d rows, objects %v; want %d and %d", rows, keys, c.rows, c.objects)
			}
			if n := db.Stats().InUse; n != 0 {
				t.Errorf("%d connections were not given back", n)
			}
		})
	}
}

// Whoever commits although PutBatchTx failed gets no row without its object, if the
// transaction still took rows: the server had not refused them.
func TestPutBatchTxWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ files, rows int }{{2, 2}, {65, 64}} { // in one statement, and in two
		t.Run(fmt.Sprint(c.files, " files"), func(t *testing.T) {
			t.Parallel()
			connector, err := pq.NewConnector(migratedDatabase(t))
			if err != nil {
				t.Fatal(err)
			}
			db := sql.OpenDB(losing{Connector: connector, after: true, fail: context.DeadlineExceeded, done: &atomic.Bool{}})
			t.Cleanup(func() { _ = db.Close() })
			objects := openObjects(t)
			s := store{pendinguploads.NewS3(db, objects, pendinguploads.WithLogger(slog.New(slog.DiscardHandler))), db, objects}
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			contents := make([][]byte, c.files)
			for i := range contents {
				contents[i] = []byte{byte(i)}
			}
			ids, err := s.PutBatchTx(t.Context(), tx, uuid.New(), items(contents...))
			if (err == nil) != (c.rows == c.files) {
				t.Errorf("PutBatchTx: %d ids, %v", len(ids), err)
			}
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			if rows, keys := s.rows(t), s.keys(t); rows != c.rows || len(keys) != c.files {
				t.Errorf("%d rows, %d objects; want %d and %d", rows, len(keys), c.rows, c.files)
			}
		})
	}
}

// lost is a losing's done from the start.
func lost() *atomic.Bool {
	var b atomic.Bool
	b.Store(true)
	return &b
}
