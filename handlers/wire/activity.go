package wire

import "encoding/json"

// Values of Activity that clients tell rows apart by.
const (
	TypeA2AReceive    = "a2a_receive"         // activity_type of everything that pollers ask for
	MethodChatUpload  = "chat_upload_receive" // method of a row that announces a file
	MethodMessageSend = "message/send"        // method of a chat message
	MethodNotify      = "notify"              // method of the agent's own messages to its user
)

// TimeFormat is RFC 3339 with a fraction of six digits, which PostgreSQL's
// clock has.
const TimeFormat = "2006-01-02T15:04:05.000000Z07:00"

// Activity is one row of GET /workspaces/{id}/activity, which answers with a
// bare array of them. The raw JSON fields are absent where the row has none;
// the last four need include=peer_info and something to say.
type Activity struct {
	ID           string          `json:"id"` // the cursor for since_id
	WorkspaceID  string          `json:"workspace_id"`
	ActivityType string          `json:"activity_type"`
	SourceID     *string         `json:"source_id"`
	TargetID     *string         `json:"target_id"`
	Method       *string         `json:"method"`
	Summary      *string         `json:"summary"`
	RequestBody  json.RawMessage `json:"request_body,omitempty"`
	ResponseBody json.RawMessage `json:"response_body,omitempty"`
	ToolTrace    json.RawMessage `json:"tool_trace,omitempty"`
	DurationMS   *int            `json:"duration_ms"`
	Status       string          `json:"status"`
	ErrorDetail  *string         `json:"error_detail"`
	CreatedAt    string          `json:"created_at"` // TimeFormat, UTC
	Seq          int64           `json:"seq"`        // gapless per workspace

	PeerName     string       `json:"peer_name,omitempty"`
	PeerRole     string       `json:"peer_role,omitempty"`
	AgentCardURL string       `json:"agent_card_url,omitempty"`
	Attachments  []Attachment `json:"attachments,omitempty"`
}

// Attachment is a file that a row mentions.
type Attachment struct {
	Kind     string `json:"kind"` // file, image, audio or video
	URI      string `json:"uri,omitempty"`
	MIMEType string `json:"mime_type,omitempty"`
	Name     string `json:"name,omitempty"`
}

// AckSeq is the body of POST /workspaces/{id}/activity/ack.
type AckSeq struct {
	AckedSeq *int64 `json:"acked_seq"`
}

// AckSeqReply answers it: the stored value, which never decreases.
type AckSeqReply struct {
	LastAckedSeq int64 `json:"last_acked_seq"`
}
