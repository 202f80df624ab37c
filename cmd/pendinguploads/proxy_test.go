package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
)

// through puts a handler between commands and a server, which passes on what it is
// not interested in, and returns its address.
func through(t *testing.T, p *process, between func(w http.ResponseWriter, r *http.Request, server http.Handler)) string {
	t.Helper()
	return inFrontOf(t, p.url, between)
}

// inFrontOf is through for any server. Requests keep their Host, which presigned ones
// are signed for.
func inFrontOf(t *testing.T, address string, between func(w http.ResponseWriter, r *http.Request, server http.Handler)) string {
	t.Helper()
	target, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	server := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
		Transport:     transport,
		FlushInterval: -1,
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { between(w, r, server) }))
	t.Cleanup(func() {
		proxy.Close()
		transport.CloseIdleConnections()
	})
	return proxy.URL
}

// loseAnswer has the server do what it is asked to, and breaks the connection off
// before its answer.
func loseAnswer(r *http.Request, server http.Handler) {
	server.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}
