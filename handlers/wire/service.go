package wire

// Health answers GET /health.
type Health struct {
	Status string `json:"status"` // "ok"
}

// BuildInfo answers GET /buildinfo.
type BuildInfo struct {
	Version   string `json:"version"`
	Revision  string `json:"revision,omitempty"` // commit
	GoVersion string `json:"go_version"`
}

// Error is the body of every reply of 400 and above; routes add keys of their
// own, such as filename and max.
type Error struct {
	Error string `json:"error"`
	Code  string `json:"code,omitempty"`
}
