package profile

import (
	"fmt"
	"net/url"
	"strings"
)

// Keep stores a workspace and its token (empty: none yet) under the profile that
// t was resolved with, or under a new one, and returns the profile's name. want is
// the name that a new profile gets; empty: one is made up. The file's first
// profile becomes its default.
func Keep(path string, t Target, want string) (string, error) {
	name := t.Profile
	err := Update(path, func(c *Config) error {
		// A profile that only lends its administrator's token stays as it is.
		if p, ok := c.Profiles[name]; !ok || !p.isOf(t) {
			if name = want; name == "" {
				name = c.fresh(t)
			}
		}
		p := c.Profiles[name]
		if !p.isOf(t) {
			return fmt.Errorf("the profile %q is another workspace's", name)
		}
		p.Server, p.Workspace = t.Server, t.Workspace
		if t.Token != "" {
			p.Token = t.Token
		}
		p.Fresh = t.Fresh && p.Token == ""
		c.Profiles[name] = p
		if c.Default == "" && len(c.Profiles) == 1 {
			c.Default = name
		}
		return nil
	})
	return name, err
}

// Renew gives the profile that t was resolved with another workspace, in the place
// of a Fresh one that came to nothing.
func Renew(path string, t Target, workspace string) error {
	return Update(path, func(c *Config) error {
		p := c.Profiles[t.Profile]
		if !p.Fresh || p.Token != "" || !p.isOf(t) {
			return fmt.Errorf("the profile %q was changed meanwhile", t.Profile)
		}
		p.Workspace = workspace
		c.Profiles[t.Profile] = p
		return nil
	})
}

// isOf reports whether the profile is t's, or of nobody yet.
func (p Profile) isOf(t Target) bool {
	return agree(p.Workspace, t.Workspace, strings.EqualFold) && agree(p.Server, t.Server, sameServer)
}

// fresh makes up a name: "default" for the first profile, else the server's host
// and the beginning of the workspace.
func (c Config) fresh(t Target) string {
	if len(c.Profiles) == 0 {
		return "default"
	}
	host := "server"
	if u, err := url.Parse(t.Server); err == nil && u.Host != "" {
		host = u.Hostname()
	}
	return host + "-" + t.Workspace[:min(8, len(t.Workspace))]
}
