package migrations

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pressly/goose/v3"
)

const (
	// lockTries is how often a migration asks for a table that others keep locked,
	// each time for the few seconds of lock_timeout that the SQL files set.
	lockTries = 5

	// lockPause is the time after the first try, in which those who queued behind
	// it go through. The next ones are longer by as much.
	lockPause = 500 * time.Millisecond

	// lockNotAvailable is the SQLSTATE of a wait that lock_timeout ended.
	lockNotAvailable = "55P03"
)

// patiently runs step until it meets no locked table, at most lockTries times,
// and returns what all tries applied.
func patiently(ctx context.Context, step func() ([]*goose.MigrationResult, error)) ([]*goose.MigrationResult, error) {
	var applied []*goose.MigrationResult
	for try := 1; ; try++ {
		results, err := step()
		var partial *goose.PartialError
		if errors.As(err, &partial) {
			results = partial.Applied
		}
		applied = append(applied, results...)
		var answer interface{ SQLState() string }
		if !errors.As(err, &answer) || answer.SQLState() != lockNotAvailable {
			return applied, err
		}
		if try == lockTries {
			return applied, fmt.Errorf("%w: gave up after %d tries, end the session that holds it (see pg_locks) and migrate again: %w",
				ErrTableInUse, lockTries, err)
		}
		pause := time.NewTimer(time.Duration(try) * lockPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return applied, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}
