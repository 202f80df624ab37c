package handlers_test

import (
	"testing"

	"github.com/molecule-ai/pendinguploads/handlers"
)

func TestCORS(t *testing.T) {
	t.Parallel()
	w := newServer(t, func(cfg *handlers.Config) {
		cfg.CORSOrigins = []string{"http://localhost:3000", "https://Canvas.example/"}
	})
	ws, token := w.workspace("poll")
	feed := "/workspaces/" + ws.String() + "/activity"
	for _, tc := range []struct {
		name, method, origin, token string
		status                      int
		allowed                     string // Access-Control-Allow-Origin
	}{
		{"no origin", "GET", "", token, 200, ""},
		{"own origin", "GET", w.url, token, 200, ""},
		{"own origin, raw configured URL", "GET", "HTTP://" + w.addr + "/", token, 200, ""},
		{"own host behind TLS", "GET", "https://" + w.addr, token, 200, ""},
		{"listed", "GET", "http://localhost:3000", token, 200, "http://localhost:3000"},
		{"listed with trailing slash", "GET", "http://localhost:3000/", token, 200, "http://localhost:3000/"},
		{"listed with default port and case", "GET", "https://CANVAS.example:443", token, 200, "https://CANVAS.example:443"},
		{"listed, refused by the guard", "GET", "http://localhost:3000", "", 401, "http://localhost:3000"},
		{"another port", "GET", "http://localhost:3001", token, 403, ""},
		{"another scheme", "GET", "https://localhost:3000", token, 403, ""},
		{"another host", "GET", "https://evil.example", token, 403, ""},
		{"host as user", "GET", "http://localhost:3000@evil.example", token, 403, ""},
		{"null", "GET", "null", token, 403, ""},
		{"wildcard", "GET", "*", token, 403, ""},
		{"preflight", "OPTIONS", "http://localhost:3000", "", 204, "http://localhost:3000"},
		{"preflight of a stranger", "OPTIONS", "https://evil.example", "", 403, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var headers []string
			if tc.origin != "" {
				headers = []string{"Origin", tc.origin}
			}
			got := w.do(tc.method, feed, tc.token, nil, headers...)
			if got.status != tc.status || got.header.Get("Access-Control-Allow-Origin") != tc.allowed {
				t.Errorf("got %d, Allow-Origin %q; want %d %q", got.status, got.header.Get("Access-Control-Allow-Origin"), tc.status, tc.allowed)
			}
			if credentials := got.header.Get("Access-Control-Allow-Credentials"); (credentials == "true") != (tc.allowed != "") {
				t.Errorf("Allow-Credentials is %q", credentials)
			}
			exposed := ""
			if tc.allowed != "" && tc.method != "OPTIONS" {
				exposed = "Accept-Ranges, Content-Disposition, Content-Range, ETag, Repr-Digest, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset"
			}
			if got.header.Get("Access-Control-Expose-Headers") != exposed {
				t.Errorf("Expose-Headers is %q", got.header.Get("Access-Control-Expose-Headers"))
			}
			if (tc.status == 403 || tc.status == 204) && got.body != "" {
				t.Errorf("body %q, want none", got.body)
			}
			if tc.status == 204 {
				for key, want := range map[string]string{
					"Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE, OPTIONS",
					"Access-Control-Allow-Headers": "Origin, Content-Type, Authorization, X-Workspace-ID, X-Molecule-Org-Id, X-Molecule-Org-Slug, X-Confirm-Name",
				} {
					if got.header.Get(key) != want {
						t.Errorf("%s is %q", key, got.header.Get(key))
					}
				}
			}
		})
	}
}

func TestSecurityHeadersOnEveryReply(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	f := w.mustUpload(ws, token, part{name: "a", content: "x"})[0]
	for _, path := range []string{"/health", "/nowhere", "/metrics", "/health/", f.path("content"), f.path("content") + "x", "/workspaces"} {
		got := w.do("GET", path, token, nil)
		for key, want := range map[string]string{
			"X-Content-Type-Options":  "nosniff",
			"X-Frame-Options":         "DENY",
			"Content-Security-Policy": "default-src 'self'",
		} {
			if got.header.Get(key) != want {
				t.Errorf("GET %s: %s is %q", path, key, got.header.Get(key))
			}
		}
		for _, key := range []string{"Strict-Transport-Security", "Referrer-Policy", "Permissions-Policy"} {
			if got.header.Get(key) == "" {
				t.Errorf("GET %s: no %s", path, key)
			}
		}
	}
}
