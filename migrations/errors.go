package migrations

import (
	"errors"
	"fmt"
)

var (
	// ErrOutdated: the database lacks migrations that this program needs.
	ErrOutdated = errors.New("database schema is outdated")

	// ErrNewer: the database has migrations that this program does not know: it
	// was migrated by a newer release.
	ErrNewer = errors.New("database schema is newer than this program")

	// ErrTableInUse: another session kept a table locked, such as a long-running
	// query or an open transaction, and nothing was changed. Find it in pg_locks.
	ErrTableInUse = errors.New("table is in use by another session")

	// ErrDatabaseURL: the connection string cannot be parsed. It is not quoted
	// anywhere, because it may hold a password.
	ErrDatabaseURL = errors.New("database URL is not a PostgreSQL connection string")
)

// VersionError is ErrOutdated or ErrNewer with the versions, in one line fit
// for an operator.
type VersionError struct {
	Set  Set
	Have int64 // highest version applied to the database, 0 for none
	Want int64 // highest version this program carries
}

func (e *VersionError) Error() string {
	if e.Have > e.Want {
		return fmt.Sprintf("%v: set %q is at version %d, this program knows up to %d; use a newer release", ErrNewer, string(e.Set), e.Have, e.Want)
	}
	return fmt.Sprintf("%v: set %q is at version %d, want %d; run `pendinguploads migrate up`", ErrOutdated, string(e.Set), e.Have, e.Want)
}

// Is makes the error match ErrOutdated or ErrNewer.
func (e *VersionError) Is(target error) bool {
	if e.Have > e.Want {
		return target == ErrNewer
	}
	return target == ErrOutdated
}
