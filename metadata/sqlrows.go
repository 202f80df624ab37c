package metadata

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// sqlStatement numbers named arguments and gives them a form that every driver
// knows: arrays as PostgreSQL's text, durations as intervals.
func sqlStatement(ctx context.Context, query string, args []any) (string, []any, error) {
	if len(args) == 1 {
		if named, ok := args[0].(pgx.NamedArgs); ok {
			var err error
			if query, args, err = named.RewriteQuery(ctx, nil, query, nil); err != nil {
				return "", nil, err
			}
		}
	}
	for i, arg := range args {
		switch arg := arg.(type) {
		case []string:
			args[i] = sqlArray(arg)
		case time.Duration:
			args[i] = fmt.Sprintf("%d microseconds", arg.Microseconds())
		case []byte:
			if arg == nil {
				args[i] = nil
			}
		}
	}
	return query, args, nil
}

// sqlArray is the text form of an array of strings.
func sqlArray(elements []string) string {
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	quoted := make([]string, len(elements))
	for i, e := range elements {
		quoted[i] = `"` + quote.Replace(e) + `"`
	}
	return "{" + strings.Join(quoted, ",") + "}"
}

// sqlError gives what the server answered pgx's form, so that one set of rules
// judges the errors of all drivers. Drivers agree on SQLState; lib/pq's Get names
// the other fields of the answer by their letters in PostgreSQL's protocol.
func sqlError(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return fmt.Errorf("%w: %w", pgx.ErrTxClosed, err)
	}
	var answered *pgconn.PgError
	var state interface{ SQLState() string }
	if errors.As(err, &answered) || !errors.As(err, &state) {
		return err
	}
	e := &pgconn.PgError{Code: state.SQLState(), SeverityUnlocalized: "ERROR", Message: err.Error()}
	var fields interface{ Get(field byte) string }
	severity := ""
	if errors.As(err, &fields) {
		e.ConstraintName, e.TableName, severity = fields.Get('n'), fields.Get('t'), fields.Get('S')
	}
	var fatal interface{ Fatal() bool }
	if errors.As(err, &fatal) && fatal.Fatal() || severity == "PANIC" || sessionEnded(e.Code) {
		e.SeverityUnlocalized = "FATAL"
	}
	return sqlFailure{e, err}
}

// sessionEnded reports that an answer was the last one of its connection, and so
// may have come after a commit: the classes of connection failures and of an
// operator's or a crash's intervention.
func sessionEnded(code string) bool {
	return strings.HasPrefix(code, "08") || strings.HasPrefix(code, "57P")
}

// sqlFailure reads as the driver's error, and is pgx's besides.
type sqlFailure struct {
	answer *pgconn.PgError
	err    error
}

func (f sqlFailure) Error() string   { return f.err.Error() }
func (f sqlFailure) Unwrap() []error { return []error{f.answer, f.err} }

// sqlRows implements pgx.Rows, as far as scanning goes.
type sqlRows struct {
	rows *sql.Rows // nil where the query failed
	err  error
}

func (r *sqlRows) Next() bool { return r.rows != nil && r.rows.Next() }

// Scan implements pgx.Rows, which closes after a failure.
func (r *sqlRows) Scan(dest ...any) error {
	if err := r.rows.Scan(dest...); err != nil {
		r.err = sqlError(err)
		r.Close()
		return r.err
	}
	return nil
}

func (r *sqlRows) Close() {
	if r.rows == nil {
		return
	}
	if err := r.rows.Close(); err != nil && r.err == nil {
		r.err = sqlError(err)
	}
}

func (r *sqlRows) Err() error {
	if r.err != nil || r.rows == nil {
		return r.err
	}
	return sqlError(r.rows.Err())
}

func (r *sqlRows) CommandTag() pgconn.CommandTag                { return pgconn.CommandTag{} }
func (r *sqlRows) FieldDescriptions() []pgconn.FieldDescription { return nil }
func (r *sqlRows) Values() ([]any, error)                       { return nil, errNotOnSQL }
func (r *sqlRows) RawValues() [][]byte                          { return nil }
func (r *sqlRows) Conn() *pgx.Conn                              { return nil }
func (r *sqlRows) TypeMap() *pgtype.Map                         { return nil }

// sqlRow implements pgx.Row.
type sqlRow struct {
	rows pgx.Rows
	err  error
}

// Scan implements pgx.Row.
func (r sqlRow) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	// As database/sql's own Row does, so that a failure behind the row is told.
	r.rows.Close()
	return r.rows.Err()
}
