// Package profile finds out which service a command talks to, and as whom: from
// flags, the environment and a file, in that order.
//
// A token goes only to the service it came with: a place that names another
// service than the one chosen gives neither its workspace nor its tokens.
package profile

import (
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
)

// Secret is a token. Printing or logging one shows that it is there, not what it
// is.
type Secret string

// String hides the token.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "(hidden)"
}

// Format hides the token under every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue hides the token.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Reveal is the token itself.
func (s Secret) Reveal() string { return string(s) }

// Profile is a service and an identity on it. Each field may be empty.
type Profile struct {
	Server     string `json:"server,omitempty"`
	Workspace  string `json:"workspace,omitempty"`
	Token      Secret `json:"token,omitempty"`       // the workspace's
	AdminToken Secret `json:"admin_token,omitempty"` // the administrator's, for other workspaces of the service
	Fresh      bool   `json:"fresh,omitempty"`       // this program made the workspace's id up, and it has had no token yet
}

// sameServer compares addresses without their trailing slash, default port and
// case of the host.
func sameServer(a, b string) bool { return canonical(a) == canonical(b) }

func canonical(server string) string {
	u, err := url.Parse(strings.TrimSpace(server))
	if err != nil || u.Host == "" {
		return server
	}
	host, scheme := strings.ToLower(u.Host), strings.ToLower(u.Scheme)
	switch scheme {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	}
	return scheme + "://" + host + strings.TrimRight(u.EscapedPath(), "/")
}

func agree(a, b string, same func(a, b string) bool) bool {
	return a == "" || b == "" || same(a, b)
}
