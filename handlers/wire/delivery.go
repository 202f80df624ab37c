package wire

import "time"

// ContentURL answers GET …/content?delivery=url: where the content can be had
// without a token.
type ContentURL struct {
	URL       string            `json:"url"`
	ExpiresAt time.Time         `json:"expires_at"` // RFC 3339
	SHA256    string            `json:"sha256"`     // of the content, in hex; empty where it is unknown
	Size      int64             `json:"size"`       // of the content in bytes
	Headers   map[string]string `json:"headers"`    // to send with the GET, exactly; mostly none
}
