package metadata

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/storage"
)

// hierarchyLock is the key of the advisory lock that changes of the hierarchy
// hold until they commit, chosen at random. Two changes that are fine alone can
// make a cycle together; they are rare, so one lock for all of them will do.
const hierarchyLock int64 = 2908153372210468817

func lockHierarchy(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(@key)", pgx.NamedArgs{"key": hierarchyLock}); err != nil {
		return fmt.Errorf("lock hierarchy: %w", err)
	}
	return nil
}

const childrenSQL = `SELECT ` + workspaceColumns + `
FROM workspaces w
WHERE w.parent_id = @id AND w.status <> 'removed'
ORDER BY w.created_at, w.id`

// Children returns the live children of a workspace, oldest first; none for an
// unknown one.
func (s *Workspaces) Children(ctx context.Context, id storage.WorkspaceID) ([]Workspace, error) {
	list, err := s.all(ctx, s.db, childrenSQL, pgx.NamedArgs{"id": wsArg(id)})
	if err != nil {
		return nil, fmt.Errorf("list children of workspace %s: %w", id, err)
	}
	return list, nil
}

const peersSQL = `SELECT ` + workspaceColumns + `
FROM workspaces w
LEFT JOIN workspaces me ON me.id = @id
WHERE w.id <> @id AND w.status <> 'removed'
  AND (w.parent_id = me.parent_id OR w.id = me.parent_id OR w.parent_id = @id)
ORDER BY w.created_at, w.id`

// Peers returns the live workspaces next to a workspace: siblings that share
// its parent, the parent, and children; oldest first, none for an unknown one.
func (s *Workspaces) Peers(ctx context.Context, id storage.WorkspaceID) ([]Workspace, error) {
	list, err := s.all(ctx, s.db, peersSQL, pgx.NamedArgs{"id": wsArg(id)})
	if err != nil {
		return nil, fmt.Errorf("list peers of workspace %s: %w", id, err)
	}
	return list, nil
}

// relatedSQL walks up from both; UNION, not UNION ALL, ends it whatever the
// rows say.
const relatedSQL = `
WITH RECURSIVE up AS (
    SELECT id AS origin, id, parent_id
    FROM workspaces
    WHERE id IN (@a, @b)
    UNION
    SELECT up.origin, w.id, w.parent_id
    FROM up
    JOIN workspaces w ON w.id = up.parent_id
)
SELECT EXISTS (SELECT FROM up WHERE origin = @a AND id = @b)
    OR EXISTS (SELECT FROM up WHERE origin = @b AND id = @a)
    OR EXISTS (
        SELECT FROM workspaces a
        JOIN workspaces b ON b.parent_id = a.parent_id
        WHERE a.id = @a AND b.id = @b)`

// Related reports whether a and b may talk to each other (contract 2.9): they
// are the same, have the same parent, or one is an ancestor of the other. False
// where either does not exist.
func (s *Workspaces) Related(ctx context.Context, a, b storage.WorkspaceID) (bool, error) {
	var related bool
	err := s.db.QueryRow(ctx, relatedSQL, pgx.NamedArgs{"a": wsArg(a), "b": wsArg(b)}).Scan(&related)
	if err != nil {
		return false, fmt.Errorf("relate workspaces %s and %s: %w", a, b, err)
	}
	return related, nil
}
