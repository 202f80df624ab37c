package metadata

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/storage"
)

// RemoveOptions say how far a removal goes.
type RemoveOptions struct {
	Descendants bool // remove descendants too, rather than refuse
	Purge       bool // delete the rows with their feeds and tokens, rather than mark them
}

const liveSubtreeSQL = `
WITH RECURSIVE tree AS (
    SELECT id
    FROM workspaces
    WHERE id = @id
    UNION
    SELECT w.id
    FROM tree
    JOIN workspaces w ON w.parent_id = tree.id
    WHERE w.status <> 'removed'
)
SELECT id FROM tree`

const markRemovedSQL = `
UPDATE workspaces
SET status = 'removed', removed_at = statement_timestamp(), updated_at = statement_timestamp()
WHERE id = ANY (@ids::text[]::uuid[])`

const revokeAllSQL = `
UPDATE workspace_auth_tokens
SET revoked_at = statement_timestamp()
WHERE workspace_id = ANY (@ids::text[]::uuid[]) AND revoked_at IS NULL`

const purgeSQL = `
DELETE FROM workspaces
WHERE id = ANY (@ids::text[]::uuid[])`

// Remove removes a workspace, so that its tokens stop working at once, and
// returns how many descendants went with it. Staged uploads stay until they are
// swept. storage.ErrWorkspaceNotFound, ErrWorkspaceRemoved (removed before),
// ErrHasChildren (live ones, and Descendants is not set): nothing was changed.
func (s *Workspaces) Remove(ctx context.Context, id storage.WorkspaceID, opts RemoveOptions) (cascaded int, err error) {
	err = inTx(ctx, s.db, func(tx pgx.Tx) error {
		if err := lockHierarchy(ctx, tx); err != nil {
			return err
		}
		w, err := s.get(ctx, tx, id)
		if err != nil {
			return err
		}
		if w.Removed() {
			return ErrWorkspaceRemoved
		}
		rows, err := tx.Query(ctx, liveSubtreeSQL, pgx.NamedArgs{"id": wsArg(id)})
		if err != nil {
			return fmt.Errorf("list descendants: %w", err)
		}
		tree, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			return fmt.Errorf("list descendants: %w", err)
		}
		cascaded = len(tree) - 1
		if cascaded > 0 && !opts.Descendants {
			return ErrHasChildren
		}
		ids := make([]string, len(tree))
		for i, member := range tree {
			ids[i] = member.String()
		}
		statements := []string{markRemovedSQL, revokeAllSQL}
		if opts.Purge {
			statements = []string{purgeSQL}
		}
		for _, sql := range statements {
			if _, err := tx.Exec(ctx, sql, pgx.NamedArgs{"ids": ids}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("remove workspace %s: %w", id, err)
	}
	return cascaded, nil
}
