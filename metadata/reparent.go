package metadata

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/storage"
)

// Codes of ReparentError, as they appear on the wire (contract 2.10).
const (
	ReparentSelf          = "WORKSPACE_REPARENT_SELF"                     // a workspace cannot be its own parent
	ReparentCycle         = "WORKSPACE_REPARENT_CYCLE"                    // the parent is a descendant
	ReparentNoParent      = "WORKSPACE_REPARENT_PARENT_NOT_FOUND"         // the parent does not exist or is removed
	ReparentRootPromotion = "WORKSPACE_REPARENT_ROOT_PROMOTION_FORBIDDEN" // a child cannot become a root
	ReparentNameTaken     = "WORKSPACE_REPARENT_NAME_TAKEN"               // the parent has a child of that name
)

// ReparentError says why a workspace cannot get that parent.
type ReparentError struct {
	Code      string // one of the Reparent constants
	Workspace storage.WorkspaceID
	Parent    *storage.WorkspaceID // nil where it was to become a root
}

func (e *ReparentError) Error() string {
	parent := "none"
	if e.Parent != nil {
		parent = e.Parent.String()
	}
	return fmt.Sprintf("workspace %s cannot get parent %s: %s", e.Workspace, parent, e.Code)
}

const subtreeHasSQL = `
WITH RECURSIVE up AS (
    SELECT id, parent_id
    FROM workspaces
    WHERE id = @parent
    UNION
    SELECT w.id, w.parent_id
    FROM up
    JOIN workspaces w ON w.id = up.parent_id
)
SELECT EXISTS (SELECT FROM up WHERE id = @id)`

const reparentSQL = `
UPDATE workspaces w
SET parent_id = @parent, updated_at = statement_timestamp()
WHERE w.id = @id AND w.status <> 'removed'
RETURNING ` + workspaceColumns

// Reparent moves a live workspace under another, and its descendants with it.
// A nil parent is accepted only where the workspace is a root already.
// storage.ErrWorkspaceNotFound for the workspace itself, also a removed one; any
// other refusal is a *ReparentError.
func (s *Workspaces) Reparent(ctx context.Context, id storage.WorkspaceID, parent *storage.WorkspaceID) (Workspace, error) {
	var w Workspace
	err := inTx(ctx, s.db, func(tx pgx.Tx) error {
		if err := lockHierarchy(ctx, tx); err != nil {
			return err
		}
		var err error
		if w, err = s.get(ctx, tx, id); err != nil {
			return err
		}
		if w.Removed() {
			return storage.ErrWorkspaceNotFound
		}
		if code, err := s.reparentRefusal(ctx, tx, w, parent); err != nil {
			return err
		} else if code != "" {
			return &ReparentError{Code: code, Workspace: id, Parent: parent}
		}
		if parent == nil {
			return nil
		}
		w, err = s.one(ctx, tx, reparentSQL, pgx.NamedArgs{"id": wsArg(id), "parent": wsArg(*parent)})
		if errors.Is(err, ErrNameTaken) {
			return &ReparentError{Code: ReparentNameTaken, Workspace: id, Parent: parent}
		}
		return err
	})
	if err != nil {
		return Workspace{}, fmt.Errorf("reparent workspace %s: %w", id, err)
	}
	return w, nil
}

// reparentRefusal is the code that forbids the move, or "".
func (s *Workspaces) reparentRefusal(ctx context.Context, tx pgx.Tx, w Workspace, parent *storage.WorkspaceID) (string, error) {
	if parent == nil {
		if w.ParentID != nil {
			return ReparentRootPromotion, nil
		}
		return "", nil
	}
	if *parent == w.ID {
		return ReparentSelf, nil
	}
	p, err := s.get(ctx, tx, *parent)
	if errors.Is(err, storage.ErrWorkspaceNotFound) || err == nil && p.Removed() {
		return ReparentNoParent, nil
	}
	if err != nil {
		return "", err
	}
	var cycle bool
	args := pgx.NamedArgs{"id": uuid.UUID(w.ID), "parent": wsArg(*parent)}
	if err := tx.QueryRow(ctx, subtreeHasSQL, args).Scan(&cycle); err != nil {
		return "", fmt.Errorf("look for cycle: %w", err)
	}
	if cycle {
		return ReparentCycle, nil
	}
	return "", nil
}
