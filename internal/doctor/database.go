package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/molecule-ai/pendinguploads/metadata"
)

// database is what the checks of PostgreSQL share.
type database struct {
	pool *pgxpool.Pool
}

const (
	// minVersion is what the migrations need.
	minVersion = 15

	// Clocks of hosts that are kept in time differ by milliseconds. Rows and
	// tokens live by the database's clock, URLs by this one, so that minutes
	// between the two are files that end early or late.
	clockWarning = 5 * time.Second
	clockFailure = 5 * time.Minute
)

func (d *Doctor) checkDatabase(ctx context.Context) verdict {
	s := d.cfg.Settings
	if s.Database.Validate() != nil {
		return skip("not examined, see %s", nameSettings)
	}
	s.DatabaseMaxConns = 2 // examining must not use up what it counts
	pool, err := s.OpenDatabase(ctx)
	if err != nil {
		return fail(databaseFix(err), "%s", databaseSaid(err))
	}
	d.pool = pool
	c := pool.Config().ConnConfig
	return ok("%s:%d answers, database %q, user %q", c.Host, c.Port, c.Database, c.User)
}

// databaseFix goes by SQLSTATE.
func databaseFix(err error) string {
	var certificate *tls.CertificateVerificationError
	switch state := sqlState(err); {
	case errors.Is(err, metadata.ErrDatabaseURL):
		return "write DATABASE_URL as postgres://USER:PASSWORD@HOST/NAME, with special characters percent-encoded"
	case state == "28P01" || state == "28000":
		return "correct user and password in DATABASE_URL, or let the user in through pg_hba.conf"
	case state == "3D000":
		return "create the database, or correct its name in DATABASE_URL"
	case state == "42501":
		return "GRANT CONNECT ON DATABASE to the user of DATABASE_URL"
	case state == "53300":
		return "end idle sessions, or raise max_connections or the connection limit of the user or the database"
	case state == "57P03":
		return "wait until the server has started"
	case errors.As(err, &certificate):
		return "correct sslmode and sslrootcert in DATABASE_URL, or the server's certificate"
	}
	return "correct host, port and sslmode in DATABASE_URL; look whether PostgreSQL runs and no firewall is between"
}

// checkVersion goes by what the server says at the start of a session, so that a
// pooler's answer counts, too.
func (d *Doctor) checkVersion(ctx context.Context) verdict {
	conn, err := d.pool.Acquire(ctx)
	if err != nil {
		return fail(databaseFix(err), "%s", databaseSaid(err))
	}
	defer conn.Release()
	text := conn.Conn().PgConn().ParameterStatus("server_version")
	digits := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if digits < 0 {
		digits = len(text)
	}
	major, err := strconv.Atoi(text[:digits])
	switch {
	case err != nil:
		return warn("look whether it is PostgreSQL 15 or newer", "the server calls its version %q", text)
	case major < minVersion:
		return fail("upgrade to PostgreSQL 15 or newer", "PostgreSQL %s", text)
	}
	return ok("PostgreSQL %s", text)
}

const databaseClockSQL = `SELECT clock_timestamp()`

func (d *Doctor) checkDatabaseClock(ctx context.Context) verdict {
	var there time.Time
	before := time.Now()
	if err := d.pool.QueryRow(ctx, databaseClockSQL).Scan(&there); err != nil {
		return fail(databaseFix(err), "%s", databaseSaid(err))
	}
	return clocks("the database's", there.Sub(middle(before, time.Now())), 0, clockWarning)
}

// middle is when the answer to a question was most likely made.
func middle(before, after time.Time) time.Time { return before.Add(after.Sub(before) / 2) }

// clocks judges how far a clock is ahead of the one here, known to within
// resolution.
func clocks(whose string, ahead, resolution, warning time.Duration) verdict {
	direction := "ahead of"
	if ahead < 0 {
		direction = "behind"
	}
	const fix = "keep the clocks of both hosts in time (NTP)"
	shown := ahead.Abs().Round(time.Millisecond)
	if resolution > 0 {
		shown = shown.Round(time.Second)
	}
	switch {
	case ahead.Abs() > clockFailure+resolution:
		return fail(fix, "%s clock is %v %s the one here", whose, shown, direction)
	case ahead.Abs() > warning+resolution:
		return warn(fix, "%s clock is %v %s the one here", whose, shown, direction)
	}
	return ok("%s clock is %v %s the one here", whose, shown, direction)
}
