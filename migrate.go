package pendinguploads

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/molecule-ai/pendinguploads/migrations"
)

// Migrate brings the pending_uploads table to the form that NewS3 needs, or makes
// it, and touches no other table but its own record of versions. It may run again
// at any time, and while the platform runs: what it locks and for how long is in
// docs/adopting.md. NewPostgres works on before and after.
func Migrate(ctx context.Context, db *sql.DB) error {
	if _, err := migrations.UpOn(ctx, db, migrations.Uploads); err != nil {
		return fmt.Errorf("pendinguploads: migrate: %w", err)
	}
	return nil
}
