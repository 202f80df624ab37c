package wire

import "encoding/json"

// Workspace is what anybody may know of a workspace: never a secret, and not
// what it is working on.
type Workspace struct {
	ID              string          `json:"id"`
	Name            string          `json:"name"`
	Status          string          `json:"status"`
	Role            *string         `json:"role"`
	Tier            int             `json:"tier"`
	Kind            string          `json:"kind"`
	Runtime         string          `json:"runtime"`
	URL             string          `json:"url"`
	ParentID        *string         `json:"parent_id"`
	DeliveryMode    string          `json:"delivery_mode"`
	AgentCard       json.RawMessage `json:"agent_card"`
	ActiveTasks     int             `json:"active_tasks"`
	LastHeartbeatAt *string         `json:"last_heartbeat_at"` // TimeFormat, UTC
	CreatedAt       string          `json:"created_at"`
}

// CreateWorkspace is the body of POST /workspaces.
type CreateWorkspace struct {
	Name         string          `json:"name"`
	Role         string          `json:"role,omitempty"`
	Tier         int32           `json:"tier,omitempty"`
	Runtime      string          `json:"runtime,omitempty"`
	External     bool            `json:"external,omitempty"` // the agent runs elsewhere
	URL          string          `json:"url,omitempty"`
	DeliveryMode string          `json:"delivery_mode,omitempty"` // default push
	ParentID     *string         `json:"parent_id,omitempty"`
	AgentCard    json.RawMessage `json:"agent_card,omitempty"`
}

// CreatedWorkspace answers it.
type CreatedWorkspace struct {
	ID         string      `json:"id"`
	Name       string      `json:"name"`
	External   bool        `json:"external"`
	Status     string      `json:"status"`
	AuthToken  string      `json:"auth_token,omitempty"` // of an ordinary workspace
	Connection *Connection `json:"connection,omitempty"` // of an external one that has no URL yet
}

// Connection is what an agent elsewhere needs to connect as the workspace.
type Connection struct {
	WorkspaceID string `json:"workspace_id"`
	PlatformURL string `json:"platform_url"`
	AuthToken   string `json:"auth_token"`
}

// MintedToken answers POST /admin/workspaces/{id}/tokens. The token is shown
// this once.
type MintedToken struct {
	ID          string `json:"id"`
	WorkspaceID string `json:"workspace_id"`
	Kind        string `json:"kind"`
	Prefix      string `json:"prefix"`
	AuthToken   string `json:"auth_token"`
}

// PatchedWorkspace answers PATCH /workspaces/{id}.
type PatchedWorkspace struct {
	Status       string `json:"status"` // "updated"
	Reparented   bool   `json:"reparented"`
	NeedsRestart bool   `json:"needs_restart"`
}

// RemovedWorkspace answers DELETE /workspaces/{id}.
type RemovedWorkspace struct {
	Status         string `json:"status"` // "removed" or "purged"
	CascadeDeleted int    `json:"cascade_deleted"`
}

// ConfirmationRequired answers a DELETE that would take children along.
type ConfirmationRequired struct {
	Status        string     `json:"status"` // "confirmation_required"
	Message       string     `json:"message"`
	Children      []ChildRef `json:"children"`
	ChildrenCount int        `json:"children_count"`
}

// ChildRef names a child.
type ChildRef struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}
