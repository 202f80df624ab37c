package handlers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
)

const (
	// jsonBodyBytes caps the body of an ordinary JSON route.
	jsonBodyBytes = 1 << 20
	// a2aBodyBytes caps a chat message (contract 2.9).
	a2aBodyBytes = 16 << 20
)

// errBadJSON: a body is not one JSON value of the wanted shape.
var errBadJSON = errors.New("bad JSON")

// readBody reads a body of up to limit bytes. It returns errBodyTooLarge,
// errBodyTooSlow or errBodyUnreadable.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, tooLarge(r, limit)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, errBodyTooSlow.because(err)
	case err != nil:
		return nil, errBodyUnreadable.because(err)
	case int64(len(body)) > limit:
		return nil, tooLarge(r, limit)
	}
	return body, nil
}

// tooLarge reads on for a while, so that a sender that writes everything before
// it reads gets to see the answer. One that waits for "100 Continue" sees it
// anyway.
func tooLarge(r *http.Request, limit int64) error {
	if !strings.EqualFold(r.Header.Get("Expect"), "100-continue") {
		// Whatever ends this, the answer is the same.
		_, _ = io.CopyN(io.Discard, r.Body, drainFactor*limit)
	}
	return errBodyTooLarge.with("max_bytes", limit)
}

// readJSON decodes a body of up to jsonBodyBytes into v; unknown keys are
// ignored. An error wraps errBadJSON, or is one of readBody's.
func readJSON(r *http.Request, v any) error {
	body, err := readBody(r, jsonBodyBytes)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", errBadJSON, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: more than one value", errBadJSON)
	}
	return nil
}

// badBody is the reply for a readJSON error: the route's own text where the
// body is not what it should be, else what readBody says.
func badBody(err error, bad *failure) error {
	if errors.Is(err, errBadJSON) {
		return bad.because(err)
	}
	return err
}

// baseURL is the address under which callers reach the service, without a
// trailing slash: the configured one, else what the request says.
func (s *Server) baseURL(r *http.Request) string {
	if s.cfg.PublicURL != "" {
		return strings.TrimSuffix(s.cfg.PublicURL, "/")
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	if p := firstOf(r.Header.Get("X-Forwarded-Proto")); p == "http" || p == "https" {
		scheme = p
	}
	host := r.Host
	if h := firstOf(r.Header.Get("X-Forwarded-Host")); h != "" {
		host = h
	}
	return scheme + "://" + host
}

// firstOf is the first element of a comma-separated header: the one that the
// proxy nearest to the client added.
func firstOf(header string) string {
	first, _, _ := strings.Cut(header, ",")
	return strings.TrimSpace(first)
}

// clientAddr is the peer's address without its port.
func clientAddr(r *http.Request) string {
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return ap.Addr().String()
	}
	return r.RemoteAddr
}
