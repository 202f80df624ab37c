package handlers

import (
	"net/http"
	"path"
	"slices"
	"strings"
)

// discoverPrefix has a mux of its own: ServeMux refuses a pair of patterns such
// as /registry/discover/{id} and /registry/{id}/peers, neither of which is the
// more specific one for /registry/discover/peers.
const discoverPrefix = "/registry/discover/"

// unmatched labels requests that match no route (contract 9.1).
const unmatched = "unmatched"

// router finds the route of a request. Methods are told apart here, not in the
// patterns: ServeMux would answer HEAD from a GET route and write its own 405.
type router struct {
	main     *http.ServeMux
	discover *http.ServeMux
	none     http.Handler
}

// newRouter builds the muxes from the table. It panics on two routes with the
// same method and pattern, which only a mistake in the table can cause.
func (s *Server) newRouter(table []route) *router {
	rt := &router{
		main:     http.NewServeMux(),
		discover: http.NewServeMux(),
		none:     s.chain(unmatched, exempt, func(http.ResponseWriter, *http.Request) error { return errNotFound }),
	}
	byPattern := make(map[string][]route)
	for _, r := range table {
		byPattern[r.pattern] = append(byPattern[r.pattern], r)
	}
	for pattern, routes := range byPattern {
		mux := rt.main
		if strings.HasPrefix(pattern, discoverPrefix) {
			mux = rt.discover
		}
		mux.Handle(pattern, s.byMethod(routes))
	}
	rt.main.Handle("/", rt.none)
	rt.discover.Handle("/", rt.none)
	return rt
}

// byMethod answers one pattern with the route of the request's method, or 405
// with the methods that there are.
func (s *Server) byMethod(routes []route) http.Handler {
	handlers := make(map[string]http.Handler, len(routes))
	var methods []string
	for _, r := range routes {
		if handlers[r.method] != nil {
			panic("two routes for " + r.method + " " + r.pattern)
		}
		handlers[r.method] = s.chain(label(r.pattern), r.flags, s.guarded(r))
		methods = append(methods, r.method)
	}
	slices.Sort(methods)
	allow := strings.Join(methods, ", ")
	refuse := s.chain(unmatched, plain, func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Allow", allow)
		return errMethodNotAllowed
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := handlers[r.Method]; h != nil {
			h.ServeHTTP(w, r)
			return
		}
		refuse.ServeHTTP(w, r)
	})
}

// ServeHTTP sends the request to its route. A path that ServeMux would redirect
// to a tidier one is a 404 here (contract 2.6).
func (rt *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case !isClean(r.URL.Path) || !isClean(r.URL.EscapedPath()) || hasEncodedSlash(r.URL.EscapedPath()):
		rt.none.ServeHTTP(w, r)
	case strings.HasPrefix(r.URL.Path, discoverPrefix):
		rt.discover.ServeHTTP(w, r)
	default:
		rt.main.ServeHTTP(w, r)
	}
}

// isClean reports that the path has no empty, "." or ".." segment and no
// trailing slash.
func isClean(p string) bool {
	return p != "" && p[0] == '/' && path.Clean(p) == p
}

func hasEncodedSlash(escaped string) bool {
	return strings.Contains(strings.ToLower(escaped), "%2f")
}

// label is a pattern as metrics name it: /workspaces/:id/activity.
func label(pattern string) string {
	return strings.NewReplacer("{", ":", "}", "").Replace(pattern)
}

// chain puts a handler behind everything that each request passes.
func (s *Server) chain(label string, flags routeFlags, h handlerFunc) http.Handler {
	next := s.secureHeaders(s.answer(h))
	if flags&exempt == 0 {
		next = s.limitRate(next)
	}
	return s.observe(label, s.cors(next))
}
