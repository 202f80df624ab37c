package handlers

import (
	"net/http"
	"net/url"
	"strings"
)

const (
	corsMethods = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
	corsHeaders = "Origin, Content-Type, Authorization, X-Workspace-ID, X-Molecule-Org-Id, X-Molecule-Org-Slug, X-Confirm-Name"

	// corsExposed is what pages may read of a reply beside what every page may.
	corsExposed = "Accept-Ranges, Content-Disposition, Content-Range, ETag, Repr-Digest, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset"
)

// cors lets pages of the configured origins call the API with credentials. A
// request without Origin, or from the server's own, passes untouched: pollers
// send their platform URL as Origin. Any other origin is refused before
// authentication.
func (s *Server) cors(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := r.Header.Get("Origin")
		if sent == "" {
			next.ServeHTTP(w, r)
			return
		}
		// A cache must not serve one origin's reply to another.
		w.Header().Add("Vary", "Origin")
		origin, ok := normaliseOrigin(sent)
		switch {
		case ok && s.origins[origin]:
			h := w.Header()
			h.Set("Access-Control-Allow-Origin", sent) // by name: * forbids credentials
			h.Set("Access-Control-Allow-Credentials", "true")
			if r.Method == http.MethodOptions {
				h.Set("Access-Control-Allow-Methods", corsMethods)
				h.Set("Access-Control-Allow-Headers", corsHeaders)
				h.Set("Access-Control-Max-Age", "600")
				w.WriteHeader(http.StatusNoContent)
				return
			}
			h.Set("Access-Control-Expose-Headers", corsExposed)
		case ok && isOwnOrigin(origin, r.Host):
		default:
			w.WriteHeader(http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// originAllowed reports whether a request's Origin, if it has one, is the
// server's own or a configured one. For handshakes that CORS does not cover.
func (s *Server) originAllowed(r *http.Request) bool {
	sent := r.Header.Get("Origin")
	origin, ok := normaliseOrigin(sent)
	return sent == "" || ok && (s.origins[origin] || isOwnOrigin(origin, r.Host))
}

// isOwnOrigin compares a normalised origin with http(s)://host.
func isOwnOrigin(origin, host string) bool {
	scheme, _, _ := strings.Cut(origin, "://")
	own, ok := normaliseOrigin(scheme + "://" + host)
	return ok && own == origin
}

// normaliseOrigin reduces an origin to scheme://host[:port] in lower case,
// without a default port: clients send the configured URL raw, with a trailing
// slash or a port that browsers leave out.
func normaliseOrigin(s string) (string, bool) {
	u, err := url.Parse(s)
	if err != nil || u.User != nil || u.Host == "" {
		return "", false
	}
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	switch scheme {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	default:
		return "", false
	}
	return scheme + "://" + strings.TrimSuffix(host, ":"), true
}
