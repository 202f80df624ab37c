package server

import (
	"cmp"
	"net/url"
	"os"
	"slices"

	"github.com/molecule-ai/pendinguploads/storage"
)

// wellKnown are passwords that images and tutorials come with.
var wellKnown = []string{"minioadmin", "postgres", "password", "admin", "secret", "changeme", "test", "dev"}

// minAdminToken is the length below which a token can be guessed or is a word.
const minAdminToken = 20

// Warnings names settings that work and should not be used in production. It
// never repeats a secret.
func (c Config) Warnings() []string {
	var w []string
	if u, err := url.Parse(c.DatabaseURL); err == nil && u.User != nil {
		if p, ok := u.User.Password(); ok && slices.Contains(wellKnown, p) {
			w = append(w, "DATABASE_URL holds a well-known password")
		}
	}
	if slices.Contains(wellKnown, os.Getenv("AWS_SECRET_ACCESS_KEY")) {
		w = append(w, "AWS_SECRET_ACCESS_KEY is a well-known one")
	}
	if n := len(c.AdminToken); n > 0 && n < minAdminToken {
		w = append(w, "ADMIN_TOKEN is short enough to be guessed")
	}
	if n := len(c.JoinToken); n > 0 && n < minAdminToken {
		w = append(w, "JOIN_TOKEN is short enough to be guessed")
	}
	if c.Registration == "open" {
		w = append(w, "REGISTRATION is open: anybody who reaches the service can register a workspace id that holds no token")
	}
	if c.redirects() {
		w = append(w, "CONTENT_DELIVERY is redirect: the released Python poller writes a redirect's body to disk and acks it; CONTENT_REDIRECT_FOR=asked spares it")
	}
	if c.URLSigningKeys == "" {
		w = append(w, "URL_SIGNING_KEYS is unset: URLs of inline files and commit tokens of direct uploads work on this replica only and end with it")
	}
	if retention := cmp.Or(c.AckRetention, storage.DefaultAckRetention); c.S3Bucket != "" && c.DirectTTL > 0 && retention < c.MaxUploadTime {
		w = append(w, "ACK_RETENTION is shorter than MAX_UPLOAD_TIME: a direct upload whose commit is repeated while its files are acked and swept can end as a row without content")
	}
	if c.WorkspaceNetworks == "any" {
		w = append(w, "WORKSPACE_NETWORKS is any: push-mode workspaces can make the service call this machine's own loopback")
	}
	return w
}
