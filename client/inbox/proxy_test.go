package inbox_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/molecule-ai/pendinguploads/client"
)

// through puts a handler between the inbox and the service, which passes on what
// it is not interested in. The result changes a client's configuration.
func (w *world) through(t *testing.T, between func(w http.ResponseWriter, r *http.Request, service http.Handler)) func(*client.Config) {
	t.Helper()
	target, err := url.Parse(w.url)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	service := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     transport,
		FlushInterval: -1,
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	proxy := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { between(w, r, service) })})
	return func(c *client.Config) { c.BaseURL = proxy }
}

func isContent(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/content") }
func isAck(r *http.Request) bool     { return strings.HasSuffix(r.URL.Path, "/ack") && !isFeedAck(r) }
func isFeedAck(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/activity/ack") }
func isStream(r *http.Request) bool  { return strings.HasSuffix(r.URL.Path, "/activity/stream") }

// flipping changes the first byte of an answer and takes away what would give
// that away before the ack.
type flipping struct {
	http.ResponseWriter
	flipped bool
}

func (f *flipping) WriteHeader(status int) {
	f.Header().Del("ETag")
	f.Header().Del("Repr-Digest")
	f.ResponseWriter.WriteHeader(status)
}

func (f *flipping) Write(p []byte) (int, error) {
	if !f.flipped && len(p) > 0 {
		f.flipped = true
		p = append([]byte{p[0] ^ 1}, p[1:]...)
	}
	return f.ResponseWriter.Write(p)
}

func (f *flipping) Unwrap() http.ResponseWriter { return f.ResponseWriter }

// noNumbers answers as a service whose rows have no numbers, and which may have no
// content for now.
func noNumbers(noContent bool) func(http.ResponseWriter, *http.Request, http.Handler) {
	number := regexp.MustCompile(`,"seq":\d+`)
	return func(w http.ResponseWriter, r *http.Request, service http.Handler) {
		switch {
		case isContent(r) && noContent, isStream(r):
			w.WriteHeader(http.StatusBadGateway)
		case strings.HasSuffix(r.URL.Path, "/activity"):
			answer := httptest.NewRecorder()
			service.ServeHTTP(answer, r)
			w.WriteHeader(answer.Code)
			_, _ = w.Write(number.ReplaceAll(answer.Body.Bytes(), nil))
		default:
			service.ServeHTTP(w, r)
		}
	}
}
