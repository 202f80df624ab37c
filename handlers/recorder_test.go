package handlers_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/blob/s3blob"
)

// publicS3 is the address of the object store for those outside, whose names only
// a follower resolves.
const publicS3 = "s3.example.test"

// recorder stands in front of the object store and keeps what it was sent.
type recorder struct {
	addr string // HOST:PORT

	mu       sync.Mutex
	requests []seen
}

// seen is one request to the object store.
type seen struct {
	method, host, path, query string
	authorization             []string
}

// record puts a recorder between everybody and the bucket of a setup. Presigned
// URLs are for publicS3, or for host where that is not empty.
func record(t *testing.T, below *setup, host string) *recorder {
	t.Helper()
	rec := &recorder{}
	below.objects = func(cfg *s3blob.Config) {
		target, err := url.Parse(cfg.Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		transport := &http.Transport{DisableCompression: true}
		proxy := &httputil.ReverseProxy{
			Transport: transport,
			Rewrite: func(pr *httputil.ProxyRequest) {
				pr.SetURL(target)
				pr.Out.Host = pr.In.Host // it is signed
			},
		}
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rec.mu.Lock()
			rec.requests = append(rec.requests, seen{r.Method, r.Host, r.URL.Path, r.URL.RawQuery, r.Header.Values("Authorization")})
			rec.mu.Unlock()
			proxy.ServeHTTP(w, r)
		}))
		t.Cleanup(func() {
			srv.Close()
			transport.CloseIdleConnections()
		})
		rec.addr = srv.Listener.Addr().String()
		cfg.Endpoint = "http://" + rec.addr
		cfg.PublicEndpoint = "http://" + publicS3
		if host != "" {
			_, port, err := net.SplitHostPort(rec.addr)
			if err != nil {
				t.Fatal(err)
			}
			cfg.PublicEndpoint = "http://" + net.JoinHostPort(host, port)
		}
	}
	return rec
}

// follow makes the world's client follow redirects by the rules of net/http, and
// resolve publicS3.
func (rec *recorder) follow(w *world) *world {
	dialer := &net.Dialer{}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if host, _, _ := net.SplitHostPort(addr); host == publicS3 {
			addr = rec.addr
		}
		return dialer.DialContext(ctx, network, addr)
	}}
	w.t.Cleanup(transport.CloseIdleConnections)
	following := *w
	following.client = &http.Client{Transport: transport, Timeout: time.Minute}
	return &following
}

// all is what the object store has seen.
func (rec *recorder) all() []seen {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return append([]seen(nil), rec.requests...)
}

// presigned counts the requests that came with a presigned URL.
func (rec *recorder) presigned() int {
	n := 0
	for _, r := range rec.all() {
		if strings.Contains(r.query, "X-Amz-Signature=") {
			n++
		}
	}
	return n
}

// wantNoToken fails if the object store was sent any other credential than a
// signature of its own kind.
func (rec *recorder) wantNoToken(t *testing.T) {
	t.Helper()
	requests := rec.all()
	if len(requests) == 0 {
		t.Error("the object store has seen nothing")
	}
	for _, r := range requests {
		for _, a := range r.authorization {
			if !strings.HasPrefix(a, "AWS4-HMAC-SHA256 ") {
				t.Errorf("%s %s came with Authorization %.16s…", r.method, r.path, a)
			}
		}
	}
}
