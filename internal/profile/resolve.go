package profile

import (
	"errors"
	"fmt"
	"strings"
)

// Sources are the places that settings come from, the strongest first. Runtime is
// what an agent's runtime has in its environment for its own purposes.
type Sources struct {
	Flags, Env, Runtime Profile
	Config              Config
	Name                string // the profile asked for; empty: whichever fits
}

// Target is what was chosen.
type Target struct {
	Server    string // may be empty
	Workspace string // may be empty
	Token     Secret // may be empty
	Profile   string // of the file, if one took part
	Fresh     bool   // the workspace's id is the profile's, and is Fresh there

	// AdminToken is the profile's administrator's, if no stronger place has a token.
	AdminToken Secret
}

// ErrNoProfile is a profile that was asked for and is not in the file.
var ErrNoProfile = errors.New("no such profile")

// Resolve chooses. Without a name, the file's default takes part unless it is of
// another service or workspace than what was given; then the one profile that
// fits does. An error says that the profile asked for does not exist or is of
// another service, or that several fit.
func (s Sources) Resolve() (Target, error) {
	var t Target
	for _, p := range []Profile{s.Flags, s.Env, s.Runtime} {
		t.take(p, true)
	}
	name, err := s.choose(t)
	if err != nil || name == "" {
		return t, err
	}
	t.take(s.Config.Profiles[name], false)
	t.Profile = name
	return t, nil
}

// take fills what is still missing. anyToken: a token may be the administrator's,
// so it holds whatever the workspace.
func (t *Target) take(p Profile, anyToken bool) {
	if !agree(t.Server, p.Server, sameServer) {
		return
	}
	if t.Server == "" {
		t.Server = p.Server
	}
	own := agree(t.Workspace, p.Workspace, strings.EqualFold)
	if t.Workspace == "" {
		t.Workspace, t.Fresh = p.Workspace, p.Fresh
	}
	if t.Token != "" {
		return
	}
	t.AdminToken = p.AdminToken
	if own || anyToken {
		t.Token = p.Token
	}
	if t.Token == "" {
		t.Token = p.AdminToken
	}
}

// choose names the profile of the file that takes part.
func (s Sources) choose(t Target) (string, error) {
	if s.Name != "" {
		p, ok := s.Config.Profiles[s.Name]
		switch {
		case !ok:
			return "", fmt.Errorf("%w: %q", ErrNoProfile, s.Name)
		case !agree(t.Server, p.Server, sameServer):
			return "", fmt.Errorf("profile %q is of the server %s, not of %s", s.Name, p.Server, t.Server)
		}
		return s.Name, nil
	}
	var fit, administer []string
	for _, name := range s.Config.names() {
		p := s.Config.Profiles[name]
		switch {
		case !agree(t.Server, p.Server, sameServer):
		case agree(t.Workspace, p.Workspace, strings.EqualFold):
			fit = append(fit, name)
		case p.AdminToken != "":
			administer = append(administer, name)
		}
	}
	for _, names := range [][]string{fit, administer} {
		switch {
		case len(names) == 0:
		case len(names) == 1 || names[0] == s.Config.Default:
			return names[0], nil
		default:
			return "", fmt.Errorf("several profiles fit (%s): choose one by name", strings.Join(names, ", "))
		}
	}
	return "", nil
}
