package metadata

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/storage"
)

// DefaultOfflineAfter is how long a workspace is shown online after its last
// heartbeat (contract 2.3).
const DefaultOfflineAfter = 180 * time.Second

// Workspace is a receiver of files.
type Workspace struct {
	ID              storage.WorkspaceID
	Name            string
	Role            string
	Tier            int
	Kind            string // workspace or platform
	Status          string // as shown: a silent online workspace is offline, or awaiting_agent when its runtime is "external"
	Runtime         string
	AgentCard       json.RawMessage // compact; nil when there is none
	URL             string
	ParentID        *storage.WorkspaceID // nil for a root
	DeliveryMode    string               // push, poll, or empty when the row has none
	TalkToUser      bool                 // whether the agent may send messages to its user
	Generation      int64
	ActiveTasks     int
	CurrentTask     string
	LastHeartbeatAt *time.Time
	CreatedAt       time.Time
	UpdatedAt       time.Time
	RemovedAt       *time.Time
}

// StatusRemoved is the status of a removed workspace.
const StatusRemoved = "removed"

// Removed reports whether the workspace was removed.
func (w Workspace) Removed() bool { return w.Status == StatusRemoved }

// WorkspacesConfig configures Workspaces.
type WorkspacesConfig struct {
	// DB is the database with both migration sets.
	DB DB

	// OfflineAfter is how long a workspace is shown online after its last
	// heartbeat; DefaultOfflineAfter when 0.
	OfflineAfter time.Duration
}

// Workspaces is the workspaces table and the rules of the hierarchy.
type Workspaces struct {
	db           DB
	offlineAfter time.Duration
}

// NewWorkspaces fills in the defaults. It does no I/O.
func NewWorkspaces(cfg WorkspacesConfig) *Workspaces {
	if cfg.OfflineAfter <= 0 {
		cfg.OfflineAfter = DefaultOfflineAfter
	}
	return &Workspaces{db: cfg.DB, offlineAfter: cfg.OfflineAfter}
}

// workspaceColumns is what scanWorkspace reads, of a table named w and with the
// argument @offline_after.
const workspaceColumns = `
w.id, w.name, w.role, w.tier, w.kind,
CASE WHEN w.status = 'online'
      AND coalesce(w.last_heartbeat_at, w.created_at) < statement_timestamp() - @offline_after::interval
     THEN CASE WHEN w.runtime = 'external' THEN 'awaiting_agent' ELSE 'offline' END
     ELSE w.status END,
w.runtime, w.agent_card, w.url, w.parent_id, coalesce(w.delivery_mode, ''), w.talk_to_user_enabled,
w.generation, w.active_tasks, w.current_task, w.last_heartbeat_at, w.created_at, w.updated_at, w.removed_at`

func scanWorkspace(row pgx.CollectableRow) (Workspace, error) {
	var w Workspace
	var parent *uuid.UUID
	err := row.Scan(&w.ID, &w.Name, &w.Role, &w.Tier, &w.Kind, &w.Status,
		&w.Runtime, &w.AgentCard, &w.URL, &parent, &w.DeliveryMode, &w.TalkToUser,
		&w.Generation, &w.ActiveTasks, &w.CurrentTask, &w.LastHeartbeatAt, &w.CreatedAt, &w.UpdatedAt, &w.RemovedAt)
	if err != nil {
		return Workspace{}, err
	}
	w.ParentID = (*storage.WorkspaceID)(parent)
	w.AgentCard, err = compact(w.AgentCard)
	return w, err
}

// compact removes the blanks that PostgreSQL writes into JSON.
func compact(doc json.RawMessage) (json.RawMessage, error) {
	if len(doc) == 0 {
		return nil, nil
	}
	var b bytes.Buffer
	b.Grow(len(doc))
	if err := json.Compact(&b, doc); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidJSON, err)
	}
	return b.Bytes(), nil
}

const getWorkspaceSQL = `SELECT ` + workspaceColumns + `
FROM workspaces w
WHERE w.id = @id`

// Get returns a workspace, also a removed one. storage.ErrWorkspaceNotFound.
func (s *Workspaces) Get(ctx context.Context, id storage.WorkspaceID) (Workspace, error) {
	return s.get(ctx, s.db, id)
}

func (s *Workspaces) get(ctx context.Context, db DB, id storage.WorkspaceID) (Workspace, error) {
	w, err := s.one(ctx, db, getWorkspaceSQL, pgx.NamedArgs{"id": wsArg(id)})
	if err != nil {
		return Workspace{}, fmt.Errorf("get workspace %s: %w", id, err)
	}
	return w, nil
}

// one runs a query for a single workspace.
func (s *Workspaces) one(ctx context.Context, db DB, sql string, args pgx.NamedArgs) (Workspace, error) {
	args["offline_after"] = s.offlineAfter
	rows, err := db.Query(ctx, sql, args)
	if err != nil {
		return Workspace{}, translate(err)
	}
	w, err := pgx.CollectExactlyOneRow(rows, scanWorkspace)
	if errors.Is(err, pgx.ErrNoRows) {
		return Workspace{}, storage.ErrWorkspaceNotFound
	}
	return w, translate(err)
}

// all runs a query for any number of workspaces.
func (s *Workspaces) all(ctx context.Context, db DB, sql string, args pgx.NamedArgs) ([]Workspace, error) {
	args["offline_after"] = s.offlineAfter
	rows, err := db.Query(ctx, sql, args)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanWorkspace)
}

const listWorkspacesSQL = `SELECT ` + workspaceColumns + `
FROM workspaces w
WHERE @removed OR w.status <> 'removed'
ORDER BY w.created_at, w.id`

// List returns all workspaces, oldest first, with the removed ones on demand.
func (s *Workspaces) List(ctx context.Context, includeRemoved bool) ([]Workspace, error) {
	list, err := s.all(ctx, s.db, listWorkspacesSQL, pgx.NamedArgs{"removed": includeRemoved})
	if err != nil {
		return nil, fmt.Errorf("list workspaces: %w", err)
	}
	return list, nil
}

const updateCardSQL = `
UPDATE workspaces
SET agent_card = @card::text::jsonb, updated_at = statement_timestamp()
WHERE id = @id AND status <> 'removed'`

// UpdateCard replaces the agent card of a live workspace.
// storage.ErrWorkspaceNotFound, ErrInvalidJSON.
func (s *Workspaces) UpdateCard(ctx context.Context, id storage.WorkspaceID, doc json.RawMessage) error {
	card, err := card(doc)
	if err != nil {
		return fmt.Errorf("update card of workspace %s: %w", id, err)
	}
	tag, err := s.db.Exec(ctx, updateCardSQL, pgx.NamedArgs{"id": wsArg(id), "card": card})
	if err != nil {
		return fmt.Errorf("update card of workspace %s: %w", id, translate(err))
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("update card of workspace %s: %w", id, storage.ErrWorkspaceNotFound)
	}
	return nil
}

// textOf is a JSON document as a query argument: nil for none.
func textOf(doc json.RawMessage) *string {
	if len(doc) == 0 {
		return nil
	}
	s := string(doc)
	return &s
}

// WorkspaceUpdate is what an administrator may change; nil leaves a field as it
// is.
type WorkspaceUpdate struct {
	Name       *string
	TalkToUser *bool
}

const updateWorkspaceSQL = `
UPDATE workspaces
SET name = coalesce(@name, name),
    talk_to_user_enabled = coalesce(@talk_to_user, talk_to_user_enabled),
    updated_at = statement_timestamp()
WHERE id = @id AND status <> 'removed'`

// Update changes a live workspace. storage.ErrWorkspaceNotFound, ErrNameTaken.
func (s *Workspaces) Update(ctx context.Context, id storage.WorkspaceID, u WorkspaceUpdate) error {
	tag, err := s.db.Exec(ctx, updateWorkspaceSQL, pgx.NamedArgs{
		"id": wsArg(id), "name": u.Name, "talk_to_user": u.TalkToUser,
	})
	if err != nil {
		return fmt.Errorf("update workspace %s: %w", id, translate(err))
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("update workspace %s: %w", id, storage.ErrWorkspaceNotFound)
	}
	return nil
}
