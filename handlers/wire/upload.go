package wire

// UploadReply answers POST /workspaces/{id}/chat/uploads.
type UploadReply struct {
	Files []UploadedFile `json:"files"` // one per file part, in request order
}

// UploadedFile is one staged file.
type UploadedFile struct {
	URI      string `json:"uri"`      // platform-pending:WORKSPACE/FILE, what chat messages cite
	Name     string `json:"name"`     // sanitised
	MIMEType string `json:"mimeType"` // empty when the part had no type
	Size     int64  `json:"size"`     // bytes
}

// UploadManifest is the request_body of the feed row that announces a file.
type UploadManifest struct {
	FileID   string `json:"file_id"`
	Name     string `json:"name"`
	MIMEType string `json:"mimeType"`
	Size     int64  `json:"size"`
	URI      string `json:"uri"`
}

// AckRequest is the optional body of an ack: what the workspace has received.
type AckRequest struct {
	SHA256 string `json:"sha256,omitempty"` // in hex
	Size   int64  `json:"size,omitempty"`   // bytes
}

// AckReply answers POST /workspaces/{id}/pending-uploads/{fid}/ack.
type AckReply struct {
	Acked bool `json:"acked"`
	Raced bool `json:"raced,omitempty"` // swept between the check and the update
}

// Limits answers GET /uploads/limits: what the server enforces.
type Limits struct {
	PerFileBytes    int64 `json:"per_file_bytes"`
	PerRequestBytes int64 `json:"per_request_bytes"`
	MaxAttachments  int   `json:"max_attachments_per_message"` // advice, not enforced
}
