package doctor

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/molecule-ai/pendinguploads/internal/server"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/migrations"
)

// tables are what the service reads and writes.
var tables = []string{"pending_uploads", "workspaces", "workspace_auth_tokens", "activity_feeds", "activity_logs", "inbox_delivery_state"}

// versionTables are what the service reads only.
var versionTables = []string{"pending_uploads_schema_uploads", "pending_uploads_schema_service"}

// rightsSQL names what the user lacks on tables that exist. to_regclass looks
// where the service's own statements look.
const rightsSQL = `
SELECT t.name || ' (' || string_agg(p.privilege, ', ' ORDER BY p.privilege) || ')'
FROM (SELECT unnest(@tables::text[]) AS name, 'SELECT INSERT UPDATE DELETE' AS privileges
      UNION ALL SELECT unnest(@versions::text[]), 'SELECT') AS t
CROSS JOIN LATERAL unnest(string_to_array(t.privileges, ' ')) AS p (privilege)
WHERE to_regclass(t.name) IS NOT NULL AND NOT has_table_privilege(to_regclass(t.name), p.privilege)
GROUP BY t.name
ORDER BY t.name`

func (d *Doctor) checkRights(ctx context.Context) verdict {
	lacking, err := d.names(ctx, rightsSQL, pgx.NamedArgs{"tables": tables, "versions": versionTables})
	switch {
	case err != nil:
		return fail(databaseFix(err), "%s", databaseSaid(err))
	case len(lacking) > 0:
		return fail("GRANT them to the user of DATABASE_URL, and USAGE on the schema", "the user lacks %s", strings.Join(lacking, ", "))
	}
	return ok("the user reads and writes every table that is there")
}

const missingSQL = `SELECT t.name FROM unnest(@tables::text[]) AS t (name) WHERE to_regclass(t.name) IS NULL`

func (d *Doctor) checkSchema(ctx context.Context) verdict {
	err := migrations.Check(ctx, d.cfg.Settings.DatabaseURL, server.Sets()...)
	switch {
	case errors.Is(err, migrations.ErrOutdated):
		return fail("pendinguploads migrate up, or MIGRATE=true for serve", "%v", err)
	case errors.Is(err, migrations.ErrNewer):
		return fail("run the release that migrated it", "%v", err)
	case err != nil:
		return fail(databaseFix(err), "%s", databaseSaid(err))
	}
	missing, err := d.names(ctx, missingSQL, pgx.NamedArgs{"tables": tables})
	switch {
	case err != nil:
		return fail(databaseFix(err), "%s", databaseSaid(err))
	case len(missing) > 0:
		return fail("correct search_path, or restore them from a backup: migrations do not make them again",
			"all migrations are recorded, and %s cannot be seen", strings.Join(missing, ", "))
	}
	return ok("all migrations are applied")
}

// names runs a query of one column of text.
func (d *Doctor) names(ctx context.Context, sql string, args pgx.NamedArgs) ([]string, error) {
	rows, err := d.pool.Query(ctx, sql, args)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func (d *Doctor) checkCorrupt(ctx context.Context) verdict {
	n, err := metadata.NewUploads(metadata.UploadsConfig{DB: d.pool}).CountCorrupt(ctx)
	switch {
	case err != nil:
		return fail(databaseFix(err), "%s", databaseSaid(err))
	case n > 0:
		return fail("look into the bucket for who else writes below the prefix; the rows are those of pending_uploads with corrupt_at, their files have to be uploaded again",
			"content that is not what was uploaded: %s", counted(int(n), "file"))
	}
	return ok("no file was found to be other than uploaded")
}
