package handlers_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestNoRouteRedirects(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	f := w.mustUpload(ws, token, part{name: "a", content: "x"})[0]
	content := f.path("content")
	dirty := []string{
		"//health", "/health/", "/./health", "/x/../health", "/%2e/health", "/x/%2e%2e/health", "/health%2f", "/health//", "/Health",
		content + "/", "/" + content, strings.Replace(content, "/pending", "//pending", 1),
		strings.Replace(content, "/pending", "/./pending", 1), strings.Replace(content, "/pending", "/x/../pending", 1),
		strings.Replace(content, "/pending", "%2Fpending", 1), strings.Replace(content, "/pending", "/%2e/pending", 1),
		content + "/..", content + "/.", content + "%2f", content + "/%2e%2e/content",
		"/workspaces/", "/workspaces//activity", "/workspaces/" + ws.String() + "/", "/registry/discover/", "/registry/discover/x/",
		"/workspaces/../metrics", "/workspaces/%2e%2e/metrics", "/\\health",
	}
	for _, path := range dirty {
		for _, method := range []string{"GET", "POST", "HEAD", "CONNECT", "OPTIONS"} {
			req, err := http.NewRequest(method, w.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.URL.Opaque = path // sent as it is
			req.Header.Set("Authorization", "Bearer "+token)
			resp, err := w.client.Transport.RoundTrip(req)
			if err != nil {
				t.Fatalf("%s %s: %v", method, path, err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusNotFound {
				t.Errorf("%s %s: %d, want 404", method, path, resp.StatusCode)
			}
		}
	}
	for _, r := range w.server.Routes() {
		path := strings.NewReplacer("{id}", ws.String(), "{fid}", ws.String()).Replace(r.Pattern)
		for _, suffix := range []string{"/", "//", "/."} {
			got := w.do(r.Method, path+suffix, adminToken, nil)
			if got.status != http.StatusNotFound {
				t.Errorf("%s %s%s: %d, want 404", r.Method, path, suffix, got.status)
			}
		}
	}
}

func TestUnknownMethodIs405WithAllow(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	for _, tc := range []struct{ method, path, allow string }{
		{"POST", "/health", "GET, HEAD"},
		{"HEAD", "/metrics", "GET"},
		{"PUT", "/workspaces/x/pending-uploads/y/content", "GET, HEAD"},
		{"GET", "/workspaces/x/pending-uploads/y/ack", "POST"},
		{"OPTIONS", "/workspaces/x/activity", "GET, POST"},
		{"BREW", "/workspaces", "GET, POST"},
		{"GET", "/registry/register", "POST"},
		{"POST", "/registry/discover/peers", "GET"},
	} {
		got := w.do(tc.method, tc.path, "", nil)
		if got.status != 405 || got.header.Get("Allow") != tc.allow {
			t.Errorf("%s %s: %d Allow %q, want 405 %q", tc.method, tc.path, got.status, got.header.Get("Allow"), tc.allow)
		}
		if tc.method != "HEAD" {
			got.want(t, 405, "method not allowed")
		}
	}
}
