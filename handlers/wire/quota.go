package wire

// CodeQuotaExceeded says that the workspace has as much waiting as it may have.
// Acks and expiry make room.
const CodeQuotaExceeded = "quota_exceeded"

// QuotaExceeded is the body of a 413 with CodeQuotaExceeded.
type QuotaExceeded struct {
	Error     string `json:"error"`
	Code      string `json:"code"`
	UsedBytes int64  `json:"used_bytes"`          // neither acked nor expired, without what was refused
	UsedFiles int64  `json:"used_files"`          // as UsedBytes
	MaxBytes  int64  `json:"max_bytes,omitempty"` // 0: no limit
	MaxFiles  int64  `json:"max_files,omitempty"` // 0: no limit
}
