package wire

import "encoding/json"

// Register is the body of POST /registry/register.
type Register struct {
	ID               string          `json:"id"`
	AgentCard        json.RawMessage `json:"agent_card"`              // an object, kept as it is
	DeliveryMode     string          `json:"delivery_mode,omitempty"` // push or poll
	URL              string          `json:"url,omitempty"`           // where push mode calls the workspace
	Kind             string          `json:"kind,omitempty"`          // workspace or platform
	MCPServerPresent *bool           `json:"mcp_server_present,omitempty"`
}

// RegisterReply answers it.
type RegisterReply struct {
	Status        string `json:"status"` // "registered"
	DeliveryMode  string `json:"delivery_mode"`
	AuthToken     string `json:"auth_token,omitempty"` // only on the registration that bootstraps
	InboundSecret string `json:"platform_inbound_secret,omitempty"`
}

// Heartbeat is the body of POST /registry/heartbeat.
type Heartbeat struct {
	WorkspaceID   string   `json:"workspace_id"`
	ErrorRate     *float64 `json:"error_rate,omitempty"`
	SampleError   *string  `json:"sample_error,omitempty"`
	ActiveTasks   *Int32   `json:"active_tasks,omitempty"`
	UptimeSeconds *Int64   `json:"uptime_seconds,omitempty"`
	CurrentTask   *string  `json:"current_task,omitempty"`
}

// HeartbeatReply answers it.
type HeartbeatReply struct {
	Status        string `json:"status"` // "ok"
	Generation    int64  `json:"generation"`
	InboundSecret string `json:"platform_inbound_secret,omitempty"`
}

// UpdateCard is the body of POST /registry/update-card.
type UpdateCard struct {
	WorkspaceID string          `json:"workspace_id"`
	AgentCard   json.RawMessage `json:"agent_card"`
}

// Status answers calls that have no more to say than that they were done.
type Status struct {
	Status string `json:"status"`
}
