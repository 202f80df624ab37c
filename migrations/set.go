package migrations

import (
	"embed"
	"fmt"
	"io/fs"
)

//go:embed uploads/*.sql service/*.sql
var files embed.FS

// Set names one group of migrations that is versioned on its own.
type Set string

const (
	// Uploads is the pending_uploads table.
	Uploads Set = "uploads"
	// Service is workspaces, tokens, activity feed and delivery state. It
	// is applied after Uploads where both are used.
	Service Set = "service"
)

// versionTable is where the set's applied versions are recorded.
func (s Set) versionTable() string { return "pending_uploads_schema_" + string(s) }

// source is the set's SQL files.
func (s Set) source() (fs.FS, error) {
	switch s {
	case Uploads, Service:
		return fs.Sub(files, string(s))
	default:
		return nil, fmt.Errorf("migration set %q does not exist", string(s))
	}
}
