package outbound_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/molecule-ai/pendinguploads/handlers/outbound"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func addrs(texts ...string) []netip.Addr {
	var list []netip.Addr
	for _, text := range texts {
		list = append(list, netip.MustParseAddr(text))
	}
	return list
}

func newClient(t *testing.T, cfg outbound.Config) *outbound.Client {
	t.Helper()
	c := outbound.New(cfg)
	t.Cleanup(c.Close)
	return c
}

func TestCheck(t *testing.T) {
	t.Parallel()
	client := newClient(t, outbound.Config{Resolver: newResolver(t, map[string][][]netip.Addr{
		"public.test.":  {addrs("8.8.8.8", "9.9.9.9")},
		"mixed.test.":   {addrs("8.8.8.8", "10.0.0.1")},
		"private.test.": {addrs("10.0.0.1")},
	})})
	tests := []struct {
		url    string
		reason string // "" when allowed
	}{
		{"https://8.8.8.8/x", ""},
		{"http://public.test:8000", ""},
		{"http://mixed.test", "private"},
		{"http://private.test", "private"},
		{"http://absent.test", "does not resolve"},
		{"http://127.0.0.1:9", "loopback"},
		{"http://[::1]/", "loopback"},
		{"http://[::ffff:127.0.0.1]/", "loopback"},
		{"http://[fe80::1%25eth0]/", "url leads to"},
		{"http://169.254.169.254/latest/meta-data", "special-purpose"},
		{"http://localhost:3000", "loopback"},
		{"http://2130706433/", "does not resolve"},
		{"http://0177.0.0.1/", "does not resolve"},
		{"ftp://8.8.8.8", "http or https"},
		{"file:///etc/passwd", "http or https"},
		{"//8.8.8.8", "http or https"},
		{"", "http or https"},
		{"http://", "name a host"},
		{"http://:80/", "name a host"},
		{"http://user:secret@8.8.8.8", "credentials"},
		{"http://8.8.8.8:port/", "not a valid URL"},
		{"http://8.8.8.8/\x7f", "not a valid URL"},
	}
	for _, test := range tests {
		err := client.Check(t.Context(), test.url)
		if test.reason == "" {
			if err != nil {
				t.Errorf("%q: %v, want allowed", test.url, err)
			}
			continue
		}
		if !errors.Is(err, outbound.ErrNotAllowed) || !strings.Contains(err.Error(), test.reason) {
			t.Errorf("%q: error %v, want ErrNotAllowed with %q", test.url, err, test.reason)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the reason repeats the password: %v", test.url, err)
		}
	}
}

func TestLocalhostIsAcceptedAtRegistrationOnly(t *testing.T) {
	t.Parallel()
	client := newClient(t, outbound.Config{})
	for _, u := range []string{"http://localhost:3000", "http://LOCALHOST/x"} {
		if err := client.CheckRegistration(t.Context(), u); err != nil {
			t.Errorf("registration of %s: %v", u, err)
		}
		if err := client.Check(t.Context(), u); !errors.Is(err, outbound.ErrNotAllowed) {
			t.Errorf("call of %s: error %v, want ErrNotAllowed", u, err)
		}
	}
	if err := client.CheckRegistration(t.Context(), "http://127.0.0.1:3000"); !errors.Is(err, outbound.ErrNotAllowed) {
		t.Errorf("registration of 127.0.0.1: error %v, want ErrNotAllowed", err)
	}
}

func TestCheckReturnsTheContextsErrorWhenCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := newClient(t, outbound.Config{Resolver: newResolver(t, nil)}).Check(ctx, "http://some.test")
	if !errors.Is(err, context.Canceled) || errors.Is(err, outbound.ErrNotAllowed) {
		t.Errorf("error %v, want context.Canceled alone", err)
	}
}

// A name that answers with a public address while it is checked and with
// loopback when it is dialled must not reach loopback.
func TestDialRefusesARebindingName(t *testing.T) {
	t.Parallel()
	var hits atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	t.Cleanup(server.Close)
	client := newClient(t, outbound.Config{Resolver: newResolver(t, map[string][][]netip.Addr{
		"rebind.test.": {addrs("8.8.8.8"), addrs("127.0.0.1")},
	})})
	_, port, _ := strings.Cut(server.Listener.Addr().String(), ":")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://rebind.test:"+port+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.Is(err, outbound.ErrNotAllowed) || !strings.Contains(err.Error(), "call workspace") {
		t.Errorf("error %v, want ErrNotAllowed from the dial", err)
	}
	if n := hits.Load(); n != 0 {
		t.Errorf("server behind the rebinding name saw %d requests", n)
	}
}

func TestDoChecksBeforeSending(t *testing.T) {
	t.Parallel()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:1/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := newClient(t, outbound.Config{}).Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.Is(err, outbound.ErrNotAllowed) {
		t.Errorf("error %v, want ErrNotAllowed", err)
	}
}

func TestDoFollowsNoRedirectAndUsesNoProxy(t *testing.T) {
	// No t.Parallel: the environment is the process's.
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("NO_PROXY", "")
	var hits atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(http.StatusTemporaryRedirect)
		_, _ = io.WriteString(w, "moved")
	}))
	t.Cleanup(server.Close)
	client := newClient(t, outbound.Config{
		Policy: outbound.Policy{Development: true},
		Resolver: newResolver(t, map[string][][]netip.Addr{
			"workspace.test.": {addrs("127.0.0.1")},
		}),
	})
	_, port, _ := strings.Cut(server.Listener.Addr().String(), ":")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://workspace.test:"+port+"/", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusTemporaryRedirect || string(body) != "moved" {
		t.Errorf("got %d %q %v, want the redirect itself", resp.StatusCode, body, err)
	}
	if n := hits.Load(); n != 1 {
		t.Errorf("server saw %d requests, want 1", n)
	}
}

func TestEndpoint(t *testing.T) {
	t.Parallel()
	tests := []struct{ base, path, want string }{
		{"http://h:1", "/internal/x", "http://h:1/internal/x"},
		{"http://h:1/", "/internal/x", "http://h:1/internal/x"},
		{"https://h/a/b/", "/internal/x", "https://h/a/b/internal/x"},
		{"https://h/a%2Fb?q=1#f", "/internal/x", "https://h/a%2Fb/internal/x"},
	}
	for _, test := range tests {
		u, err := outbound.Endpoint(test.base, test.path, nil)
		if err != nil || u.String() != test.want {
			t.Errorf("Endpoint(%q): %v, %v; want %s", test.base, u, err, test.want)
		}
	}
	u, err := outbound.Endpoint("http://h", "/read", url.Values{"path": {"/home/a b&c"}})
	if err != nil || u.String() != "http://h/read?path=%2Fhome%2Fa+b%26c" {
		t.Errorf("query: %v, %v", u, err)
	}
	if _, err := outbound.Endpoint("gopher://h", "/x", nil); !errors.Is(err, outbound.ErrNotAllowed) {
		t.Errorf("gopher: error %v, want ErrNotAllowed", err)
	}
}
