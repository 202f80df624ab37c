package handlers

import (
	"time"

	"github.com/molecule-ai/pendinguploads/storage"
)

// Route is a line of the route table, for tests that are generated from it.
type Route struct {
	Method, Pattern string
	Guard           string // public, workspace, admin or own
	Exempt          bool
}

// Routes is the whole table.
func (s *Server) Routes() []Route {
	names := map[guardKind]string{guardPublic: "public", guardWorkspace: "workspace", guardAdmin: "admin", guardOwn: "own"}
	var out []Route
	for _, r := range s.routes() {
		out = append(out, Route{r.method, r.pattern, names[r.guard], r.flags&exempt != 0})
	}
	return out
}

// ParseWait reads the wait parameter of a poll.
var ParseWait = parseWait

// SignedRef is path and query of the service's own URL of content.
func (s *Server) SignedRef(ws storage.WorkspaceID, f storage.FileID, end time.Time) string {
	return s.signedRef(ws, f, end)
}

// SameSite reports whether a host is another one or below it.
var SameSite = sameSite
