package wire

import "encoding/json"

// Queued answers POST /workspaces/{id}/a2a for a poll-mode workspace.
type Queued struct {
	Status       string `json:"status"`        // "queued"
	DeliveryMode string `json:"delivery_mode"` // "poll"
	Method       string `json:"method"`
}

// Notify is the body of POST /workspaces/{id}/notify.
type Notify struct {
	Message     string     `json:"message"`
	Attachments []ChatFile `json:"attachments,omitempty"`
}

// ChatFile is a file in a chat message.
type ChatFile struct {
	URI      string `json:"uri"`
	Name     string `json:"name"`
	MIMEType string `json:"mimeType,omitempty"`
	Size     *int64 `json:"size,omitempty"` // bytes
}

// ChatFilePart is a ChatFile as a part of a message.
type ChatFilePart struct {
	Kind string   `json:"kind"` // "file"
	File ChatFile `json:"file"`
}

// NotifyResponse is the response_body of the row that a notify leaves.
type NotifyResponse struct {
	Result string         `json:"result"`
	Parts  []ChatFilePart `json:"parts,omitempty"`
}

// PostActivity is the body of POST /workspaces/{id}/activity.
type PostActivity struct {
	ActivityType string          `json:"activity_type"`
	Method       *string         `json:"method"`
	Summary      *string         `json:"summary"`
	TargetID     string          `json:"target_id"`
	SourceID     string          `json:"source_id"`
	Status       string          `json:"status"`
	ErrorDetail  *string         `json:"error_detail"`
	DurationMS   *Int32          `json:"duration_ms"`
	RequestBody  json.RawMessage `json:"request_body"`
	ResponseBody json.RawMessage `json:"response_body"`
	Metadata     json.RawMessage `json:"metadata"` // stands in for request_body
}

// History answers GET /workspaces/{id}/chat-history.
type History struct {
	Messages   []ChatMessage `json:"messages"` // oldest first
	ReachedEnd bool          `json:"reached_end"`
}

// ChatMessage is one bubble of a chat.
type ChatMessage struct {
	ID          string     `json:"id"`   // row id, a colon and the role
	Role        string     `json:"role"` // user or agent
	Content     string     `json:"content"`
	Attachments []ChatFile `json:"attachments,omitempty"`
	Timestamp   string     `json:"timestamp"` // TimeFormat, UTC; a value for before_ts
}
