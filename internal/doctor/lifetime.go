package doctor

import (
	"context"
	"errors"
	"time"
)

// undefinedTable is the SQLSTATE of a table that is not there.
const undefinedTable = "42P01"

// errNoRows is a database that cannot be asked.
var errNoRows = errors.New("rows cannot be read")

// defaultRetention is what ACK_RETENTION=0 stands for.
const defaultRetention = time.Hour

// lifetime is how long objects can be of use.
type lifetime struct {
	longest time.Duration
	known   bool // what rows were given is in it
}

// lifetime is what the settings give a file, or what one that waits was given by
// those of earlier, or of another replica, and then what the sweeper leaves
// alone.
func (d *Doctor) lifetime(ctx context.Context) lifetime {
	s := d.cfg.Settings
	retention := s.AckRetention
	if retention == 0 {
		retention = defaultRetention
	}
	given, err := d.longestGiven(ctx)
	return lifetime{longest: max(s.UploadTTL, given) + retention + s.OrphanGrace, known: err == nil}
}

// longestGivenSQL reads the whole table. Inline content needs no object.
const longestGivenSQL = `
SELECT coalesce(ceil(extract(epoch FROM max(expires_at - created_at))), 0)::bigint
FROM pending_uploads
WHERE object_key IS NOT NULL AND isfinite(expires_at) AND isfinite(created_at)`

// longestGiven is the most time that a row of the database gives its object.
func (d *Doctor) longestGiven(ctx context.Context) (time.Duration, error) {
	if !d.usable[nameDatabase] {
		return 0, errNoRows
	}
	var seconds int64
	err := d.pool.QueryRow(ctx, longestGivenSQL).Scan(&seconds)
	if sqlState(err) == undefinedTable {
		return 0, nil // nothing was uploaded before the first migration
	}
	return time.Duration(seconds) * time.Second, err
}
