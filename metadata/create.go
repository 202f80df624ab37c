package metadata

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/storage"
)

// NewWorkspace is a workspace to create.
type NewWorkspace struct {
	ID           storage.WorkspaceID  // zero: a new random one
	Name         string               // empty: the id
	Role         string               // may be empty
	Tier         int                  // 0 means 1
	Runtime      string               // may be empty
	URL          string               // may be empty
	DeliveryMode string               // push or poll; empty means push
	Status       string               // empty means provisioning
	ParentID     *storage.WorkspaceID // nil: a root
	AgentCard    json.RawMessage      // nil: none
}

const createWorkspaceSQL = `
INSERT INTO workspaces AS w
    (id, name, role, tier, runtime, url, delivery_mode, status, parent_id, agent_card, platform_inbound_secret)
VALUES (@id, @name, @role, @tier, @runtime, @url, @mode, @status, @parent, @card::text::jsonb, @secret)
RETURNING ` + workspaceColumns

// Create adds a workspace with its feed and, unless tokenKind is empty, a first
// token, which is returned this once. ErrNameTaken, ErrWorkspaceExists,
// ErrInvalidJSON, and storage.ErrWorkspaceNotFound for a parent that does not
// exist.
func (s *Workspaces) Create(ctx context.Context, n NewWorkspace, tokenKind string) (Workspace, string, error) {
	if n.ID.IsZero() {
		id, err := uuid.NewRandom()
		if err != nil {
			return Workspace{}, "", fmt.Errorf("create workspace: %w", err)
		}
		n.ID = storage.WorkspaceID(id)
	}
	inbound, err := newSecret()
	if err != nil {
		return Workspace{}, "", fmt.Errorf("create workspace: %w", err)
	}
	agentCard, err := card(n.AgentCard)
	if err != nil {
		return Workspace{}, "", fmt.Errorf("create workspace: %w", err)
	}
	var w Workspace
	var token string
	err = inTx(ctx, s.db, func(tx pgx.Tx) error {
		if n.ParentID != nil {
			if err := lockHierarchy(ctx, tx); err != nil {
				return err
			}
			parent, err := s.get(ctx, tx, *n.ParentID)
			if err != nil {
				return err
			}
			if parent.Removed() {
				return fmt.Errorf("parent %s is removed: %w", parent.ID, storage.ErrWorkspaceNotFound)
			}
		}
		var err error
		w, err = s.one(ctx, tx, createWorkspaceSQL, pgx.NamedArgs{
			"id":      wsArg(n.ID),
			"name":    cmp.Or(n.Name, n.ID.String()),
			"role":    n.Role,
			"tier":    cmp.Or(n.Tier, 1),
			"runtime": n.Runtime,
			"url":     n.URL,
			"mode":    cmp.Or(n.DeliveryMode, "push"),
			"status":  cmp.Or(n.Status, "provisioning"),
			"parent":  (*uuid.UUID)(n.ParentID),
			"card":    agentCard,
			"secret":  inbound,
		})
		if err != nil {
			return err
		}
		if err := createFeed(ctx, tx, n.ID); err != nil {
			return err
		}
		if tokenKind == "" {
			return nil
		}
		token, _, err = mint(ctx, tx, n.ID, tokenKind)
		return err
	})
	if err != nil {
		return Workspace{}, "", fmt.Errorf("create workspace %s: %w", n.ID, err)
	}
	return w, token, nil
}

const createFeedSQL = `
INSERT INTO activity_feeds (workspace_id)
VALUES (@workspace)
ON CONFLICT (workspace_id) DO NOTHING`

// createFeed gives a workspace its feed's head, if it has none.
func createFeed(ctx context.Context, tx pgx.Tx, ws storage.WorkspaceID) error {
	if _, err := tx.Exec(ctx, createFeedSQL, pgx.NamedArgs{"workspace": wsArg(ws)}); err != nil {
		return fmt.Errorf("create feed: %w", err)
	}
	return nil
}
