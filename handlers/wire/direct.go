package wire

import "time"

// DirectRequest is the body of POST /workspaces/{id}/chat/uploads/direct.
type DirectRequest struct {
	Files []DirectRequestFile `json:"files"` // 1 to 64
}

// DirectRequestFile is a file that its sender is going to write to the object
// store himself.
type DirectRequestFile struct {
	Name     string `json:"name"`
	Size     int64  `json:"size"` // bytes
	MIMEType string `json:"mimeType,omitempty"`
	SHA256   string `json:"sha256"` // in hex or base64

	// PartSHA256 lets the service answer with requests that write parts, each of
	// PartSize bytes but the last, instead of one that writes the file. It does so
	// for files above 64 MiB, where the object store allows it.
	PartSHA256 []string `json:"part_sha256,omitempty"` // of each part, as sha256
	PartSize   int64    `json:"part_size,omitempty"`   // bytes, 5 MiB or more; 0: 16 MiB
}

// DirectReply answers it.
type DirectReply struct {
	Files       []DirectFile `json:"files"` // in request order
	CommitToken string       `json:"commit_token"`
	ExpiresAt   time.Time    `json:"expires_at"` // the end of the URLs and of the token
}

// DirectFile is the request that writes a file, or the requests that write its
// parts, in any order and at the same time. The file cannot be seen before the
// commit.
type DirectFile struct {
	FileID string `json:"file_id"`
	UploadedFile
	*DirectCall              // nil: the file is sent in parts
	Parts       []DirectPart `json:"parts,omitempty"`
}

// DirectPart is the request that writes a part of a file. Parts follow each other.
type DirectPart struct {
	Number int   `json:"number"` // from 1 on
	Size   int64 `json:"size"`   // bytes
	DirectCall
}

// DirectCall is a request to the object store.
type DirectCall struct {
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"` // to be sent exactly; no others that begin with x-amz-
}

// DirectCommit is the body of POST /workspaces/{id}/chat/uploads/direct/commit,
// which is answered with an UploadReply.
type DirectCommit struct {
	CommitToken string `json:"commit_token"`
}

// Codes of refusals that a sender acts on.
const (
	// CodeDirectUnavailable: the ordinary route is the way.
	CodeDirectUnavailable = "direct_unavailable"
	// CodeDirectExpired: nothing was staged, and nothing will be by this reservation.
	CodeDirectExpired = "direct_expired"
	// CodeDirectToken: this replica does not know the commit token.
	CodeDirectToken = "direct_token_invalid"
	// CodeDirectCommitted: a commit before this one has done it, and files are
	// acked and gone since.
	CodeDirectCommitted = "direct_committed"
)
