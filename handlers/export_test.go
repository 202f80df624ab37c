package handlers

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
