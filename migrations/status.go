package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Status is one migration and whether the database has it.
type Status struct {
	Set       Set
	Version   int64
	Name      string    // file name
	Applied   bool      // false: pending
	AppliedAt time.Time // zero while pending
}

// GetStatus lists the migrations of the sets in the order they apply. It
// changes nothing and takes no lock.
func GetStatus(ctx context.Context, databaseURL string, sets ...Set) (statuses []Status, err error) {
	db, err := open(databaseURL)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, set := range sets {
		p, err := provider(db, set)
		if err != nil {
			return nil, err
		}
		applied, err := appliedVersions(ctx, db, set)
		if err != nil {
			return nil, err
		}
		for _, source := range p.ListSources() {
			at, ok := applied[source.Version]
			statuses = append(statuses, Status{
				Set:       set,
				Version:   source.Version,
				Name:      path.Base(source.Path),
				Applied:   ok,
				AppliedAt: at,
			})
		}
	}
	return statuses, nil
}

// Check returns nil when the database has exactly the migrations this program
// carries, and a *VersionError, which is ErrOutdated or ErrNewer, for the first
// set of which it has not. It changes nothing and takes no lock.
func Check(ctx context.Context, databaseURL string, sets ...Set) (err error) {
	db, err := open(databaseURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, set := range sets {
		p, err := provider(db, set)
		if err != nil {
			return err
		}
		applied, err := appliedVersions(ctx, db, set)
		if err != nil {
			return err
		}
		e := VersionError{Set: set}
		for version := range applied {
			e.Have = max(e.Have, version)
		}
		for _, source := range p.ListSources() {
			e.Want = max(e.Want, source.Version)
		}
		if e.Have != e.Want {
			return &e
		}
	}
	return nil
}

// undefinedTable is the SQLSTATE of a statement that names no existing table.
const undefinedTable = "42P01"

// appliedVersions reads when each version was applied; none when the set was
// never migrated.
func appliedVersions(ctx context.Context, db *sql.DB, set Set) (map[int64]time.Time, error) {
	rows, err := db.QueryContext(ctx,
		"SELECT version_id, tstamp FROM "+pgx.Identifier{set.versionTable()}.Sanitize()+" WHERE is_applied AND version_id > 0")
	if err != nil {
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) && pgErr.Code == undefinedTable {
			return nil, nil
		}
		return nil, fmt.Errorf("read versions of set %q: %w", string(set), err)
	}
	defer func() { _ = rows.Close() }()
	applied := map[int64]time.Time{}
	for rows.Next() {
		var version int64
		var at time.Time
		if err := rows.Scan(&version, &at); err != nil {
			return nil, fmt.Errorf("read versions of set %q: %w", string(set), err)
		}
		applied[version] = at
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read versions of set %q: %w", string(set), err)
	}
	return applied, nil
}
