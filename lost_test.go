package pendinguploads_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/molecule-ai/pendinguploads"
)

// losing is a driver that, once, fails an INSERT: after the server has carried it
// out, or before it is sent.
type losing struct {
	driver.Connector
	after bool
	fail  error
	done  *atomic.Bool
}

func (l losing) Connect(ctx context.Context) (driver.Conn, error) {
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
	lose := strings.Contains(query, "INSERT INTO pending_uploads") && c.l.done.CompareAndSwap(false, true)
	if lose && !c.l.after {
		return nil, c.l.fail
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
// database/sql repeats the statement by itself (driver.ErrBadConn) or not. A
// statement that never arrived leaves no object that a row might cite.
func TestPutWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		after  bool
		fail   error
		staged bool
	}{
		"repeated after it was carried out": {true, driver.ErrBadConn, true},
		"broken after it was carried out":   {true, io.ErrUnexpectedEOF, true},
		"repeated before it was sent":       {false, driver.ErrBadConn, true},
		"broken before it was sent":         {false, io.ErrUnexpectedEOF, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			connector, err := pq.NewConnector(migratedDatabase(t))
			if err != nil {
				t.Fatal(err)
			}
			db := sql.OpenDB(losing{connector, c.after, c.fail, &atomic.Bool{}})
			t.Cleanup(func() { _ = db.Close() })
			objects := openObjects(t)
			s := store{pendinguploads.NewS3(db, objects, pendinguploads.WithLogger(slog.New(slog.DiscardHandler))), db, objects}
			id, err := s.Put(t.Context(), uuid.New(), []byte("once"), "a", "")
			if (err == nil) != c.staged {
				t.Fatalf("Put: %v", err)
			}
			if !c.staged {
				// Nobody can know that it never arrived, so the object stays for the
				// orphan sweep.
				if n := s.rows(t); n != 0 || len(s.keys(t)) != 1 {
					t.Errorf("%d rows, objects %v", n, s.keys(t))
				}
				return
			}
			if r, err := s.Get(t.Context(), id); err != nil || string(r.Content) != "once" {
				t.Errorf("%q, %v", r.Content, err)
			}
			if n := s.rows(t); n != 1 || len(s.keys(t)) != 1 {
				t.Errorf("%d rows, objects %v", n, s.keys(t))
			}
		})
	}
}
