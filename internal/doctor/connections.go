package doctor

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// connectionsSQL counts by database, which every user sees. Sessions of other
// replicas go by their name, which their own user sees.
const connectionsSQL = `
SELECT least(
           current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
               - coalesce(current_setting('reserved_connections', true)::int, 0),
           CASE WHEN r.rolsuper OR r.rolconnlimit < 0 THEN 1000000 ELSE r.rolconnlimit END,
           CASE WHEN r.rolsuper OR b.datconnlimit < 0 THEN 1000000 ELSE b.datconnlimit END) AS allowed,
       (SELECT coalesce(sum(numbackends), 0)::int FROM pg_stat_database)
           - (SELECT count(*)::int FROM pg_stat_activity WHERE usename = current_user AND application_name = @name) AS others
FROM pg_roles r, pg_database b
WHERE r.rolname = current_user AND b.datname = current_database()`

// checkConnections compares what one replica opens with what is left to it by
// those who are not replicas.
func (d *Doctor) checkConnections(ctx context.Context) verdict {
	s := d.cfg.Settings
	want, what := int(s.DatabaseMaxConns), "DATABASE_MAX_CONNS"
	if s.FeedNotify == "on" {
		want, what = want+1, "DATABASE_MAX_CONNS and one that listens"
	}
	var allowed, others int
	args := pgx.NamedArgs{"name": d.pool.Config().ConnConfig.RuntimeParams["application_name"]}
	if err := d.pool.QueryRow(ctx, connectionsSQL, args).Scan(&allowed, &others); err != nil {
		return fail(databaseFix(err), "%s", databaseSaid(err))
	}
	const fix = "lower DATABASE_MAX_CONNS, raise max_connections, or put a pooler between"
	free := allowed - max(others, 0)
	switch {
	case want > allowed:
		return fail(fix, "a replica opens up to %d (%s), the server allows %d", want, what, allowed)
	case want > free:
		return warn(fix, "a replica opens up to %d (%s), of the %d that the server allows others use %d", want, what, allowed, others)
	}
	return ok("a replica opens up to %d, the server allows %d, others use %d: room for %s", want, allowed, max(others, 0), counted(free/want, "replica"))
}
