package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
)

// Applied is one migration that Up or Down has just run.
type Applied struct {
	Set      Set
	Version  int64
	Name     string // file name, such as 00001_service.sql
	Down     bool   // rolled back rather than applied
	Duration time.Duration
}

// Up applies every pending migration of the sets, in the order given, and
// returns what it ran: nothing when the database is up to date. It waits for
// other migrators, as long as ctx lives. What was applied before an error stays
// applied and is returned with it. ErrTableInUse.
func Up(ctx context.Context, databaseURL string, sets ...Set) ([]Applied, error) {
	return connected(databaseURL, func(db *sql.DB) ([]Applied, error) { return UpOn(ctx, db, sets...) })
}

// UpOn is Up on a pool of the caller's, of any PostgreSQL driver.
func UpOn(ctx context.Context, db *sql.DB, sets ...Set) ([]Applied, error) {
	return run(ctx, db, sets, func(p *goose.Provider) ([]*goose.MigrationResult, error) {
		return p.Up(ctx)
	})
}

// Down rolls back the newest applied migration of each set, the last set
// given first, and returns what it ran. A set without applied migrations is
// left alone. ErrTableInUse.
func Down(ctx context.Context, databaseURL string, sets ...Set) ([]Applied, error) {
	sets = slices.Clone(sets)
	slices.Reverse(sets)
	return connected(databaseURL, func(db *sql.DB) ([]Applied, error) {
		return run(ctx, db, sets, func(p *goose.Provider) ([]*goose.MigrationResult, error) {
			result, err := p.Down(ctx)
			if errors.Is(err, goose.ErrNoNextVersion) {
				return nil, nil
			}
			if result == nil {
				return nil, err
			}
			return []*goose.MigrationResult{result}, err
		})
	})
}

// connected calls f with a pool that lives as long as the call.
func connected(databaseURL string, f func(*sql.DB) ([]Applied, error)) (applied []Applied, err error) {
	db, err := open(databaseURL)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return f(db)
}

// run calls step with a provider for each set in turn.
func run(ctx context.Context, db *sql.DB, sets []Set, step func(*goose.Provider) ([]*goose.MigrationResult, error)) ([]Applied, error) {
	var applied []Applied
	for _, set := range sets {
		p, err := provider(db, set)
		if err != nil {
			return applied, err
		}
		results, err := patiently(ctx, func() ([]*goose.MigrationResult, error) { return step(p) })
		for _, r := range results {
			applied = append(applied, Applied{
				Set:      set,
				Version:  r.Source.Version,
				Name:     path.Base(r.Source.Path),
				Down:     r.Direction == "down",
				Duration: r.Duration,
			})
		}
		if err != nil {
			return applied, fmt.Errorf("migrate set %q: %w", string(set), err)
		}
	}
	return applied, nil
}

// provider prepares one set; it does not touch the database.
func provider(db *sql.DB, set Set) (*goose.Provider, error) {
	source, err := set.source()
	if err != nil {
		return nil, err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, source,
		goose.WithTableName(set.versionTable()),
		goose.WithSessionLocker(sessionLock{}),
		goose.WithDisableGlobalRegistry(true),
	)
	if err != nil {
		return nil, fmt.Errorf("read migration set %q: %w", string(set), err)
	}
	return p, nil
}

// open parses the URL. Connections are made when first used.
func open(databaseURL string) (*sql.DB, error) {
	cfg, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return nil, ErrDatabaseURL
	}
	return stdlib.OpenDB(*cfg), nil
}
