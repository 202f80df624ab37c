package wire

import "encoding/json"

// Names of events.
const (
	EventAgentMessage   = "AGENT_MESSAGE"   // payload EventMessage
	EventUserMessage    = "USER_MESSAGE"    // payload EventMessage
	EventActivityLogged = "ACTIVITY_LOGGED" // payload EventActivity
)

// Event is what GET /ws and GET /workspaces/{id}/events/stream send.
type Event struct {
	Event       string `json:"event"`
	WorkspaceID string `json:"workspace_id"`
	Timestamp   string `json:"timestamp"` // TimeFormat, UTC
	Payload     any    `json:"payload"`
}

// EventMessage is what one side of a chat said.
type EventMessage struct {
	ID          string     `json:"id"` // of the feed row
	Message     string     `json:"message"`
	MessageID   *string    `json:"message_id,omitempty"`
	Attachments []ChatFile `json:"attachments,omitempty"`
}

// EventActivity announces a feed row. duration_ms is absent, not null, where
// the row has none: a canvas takes a duration for the end of an exchange. Large
// bodies are absent too; the feed has them.
type EventActivity struct {
	ID           string          `json:"id"`
	Seq          int64           `json:"seq"`
	ActivityType string          `json:"activity_type"`
	SourceID     *string         `json:"source_id"`
	TargetID     *string         `json:"target_id"`
	Method       *string         `json:"method"`
	Summary      *string         `json:"summary"`
	Status       string          `json:"status"`
	ErrorDetail  *string         `json:"error_detail"`
	DurationMS   *int            `json:"duration_ms,omitempty"`
	RequestBody  json.RawMessage `json:"request_body,omitempty"`
	ResponseBody json.RawMessage `json:"response_body,omitempty"`
}
