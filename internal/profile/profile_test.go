package profile_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/internal/profile"
)

const (
	here  = "https://files.example.org"
	there = "https://other.example.org"
	wsA   = "0a0a0a0a-0000-4000-8000-000000000001"
	wsB   = "0b0b0b0b-0000-4000-8000-000000000002"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	home := profile.Profile{Server: here, Workspace: wsA, Token: "home-token", AdminToken: "home-admin"}
	away := profile.Profile{Server: there, Workspace: wsB, Token: "away-token"}
	both := profile.Config{Default: "home", Profiles: map[string]profile.Profile{"home": home, "away": away}}
	for name, c := range map[string]struct {
		s    profile.Sources
		want profile.Target
		err  string
	}{
		"nothing": {},
		"the file's default": {
			s:    profile.Sources{Config: both},
			want: profile.Target{Server: here, Workspace: wsA, Token: "home-token", AdminToken: "home-admin", Profile: "home"},
		},
		"the profile asked for": {
			s:    profile.Sources{Config: both, Name: "away"},
			want: profile.Target{Server: there, Workspace: wsB, Token: "away-token", Profile: "away"},
		},
		"a profile that is not there": {s: profile.Sources{Config: both, Name: "gone"}, err: `no such profile: "gone"`},
		"flags before environment before file": {
			s: profile.Sources{
				Flags: profile.Profile{Workspace: wsA}, Env: profile.Profile{Token: "env-token"}, Config: both,
			},
			want: profile.Target{Server: here, Workspace: wsA, Token: "env-token", Profile: "home"},
		},
		"a flag's token beats all": {
			s: profile.Sources{
				Flags: profile.Profile{Token: "flag-token"}, Env: profile.Profile{Token: "env-token", Server: here}, Config: both,
			},
			want: profile.Target{Server: here, Workspace: wsA, Token: "flag-token", Profile: "home"},
		},
		"a token never goes to another server": {
			s: profile.Sources{
				Flags:   profile.Profile{Server: "https://third.example.org", Workspace: wsB},
				Env:     profile.Profile{Server: there, Token: "env-token"},
				Runtime: profile.Profile{Server: here, Workspace: wsA, Token: "runtime-token"},
				Config:  both,
			},
			want: profile.Target{Server: "https://third.example.org", Workspace: wsB},
		},
		"the profile that fits the server": {
			s:    profile.Sources{Flags: profile.Profile{Server: "https://OTHER.example.org:443/"}, Config: both},
			want: profile.Target{Server: "https://OTHER.example.org:443/", Workspace: wsB, Token: "away-token", Profile: "away"},
		},
		"another workspace of the service takes the administrator's token": {
			s:    profile.Sources{Flags: profile.Profile{Server: here, Workspace: wsB}, Config: both},
			want: profile.Target{Server: here, Workspace: wsB, Token: "home-admin", AdminToken: "home-admin", Profile: "home"},
		},
		"the profile that fits the workspace, in any case": {
			s:    profile.Sources{Flags: profile.Profile{Workspace: strings.ToUpper(wsB)}, Config: both},
			want: profile.Target{Server: there, Workspace: strings.ToUpper(wsB), Token: "away-token", Profile: "away"},
		},
		"a name of another server": {
			s:   profile.Sources{Env: profile.Profile{Server: here, Token: "env-token"}, Config: both, Name: "away"},
			err: `profile "away" is of the server ` + there,
		},
		"several fit": {
			s: profile.Sources{Config: profile.Config{Profiles: map[string]profile.Profile{
				"x": {Server: here, Workspace: wsA}, "y": {Server: here, Workspace: wsB},
			}}},
			err: "several profiles fit (x, y)",
		},
		"the runtime's environment comes before the file": {
			s:    profile.Sources{Runtime: profile.Profile{Server: there, Workspace: wsA, Token: "runtime-token"}, Config: both},
			want: profile.Target{Server: there, Workspace: wsA, Token: "runtime-token"},
		},
	} {
		got, err := c.s.Resolve()
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want %q", name, err, c.err)
			}
			continue
		}
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
}

func write(t *testing.T, mode os.FileMode, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadRefusesWhatIsWrong(t *testing.T) {
	t.Parallel()
	const good = `{"default":"home","profiles":{"home":{"server":"https://h","token":"t"}}}`
	if c, err := profile.Load(write(t, 0o600, good)); err != nil || c.Profiles["home"].Token != "t" {
		t.Errorf("a good file: %+v, %v", c, err)
	}
	if c, err := profile.Load(filepath.Join(t.TempDir(), "absent")); err != nil || len(c.Profiles) != 0 {
		t.Errorf("no file: %+v, %v", c, err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660} {
		var exposed *profile.ExposedError
		if _, err := profile.Load(write(t, mode, good)); !errors.As(err, &exposed) || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	for _, text := range []string{"{", `{"profile":{}}`, `{"profiles":{"a":{"tokn":"secret-token"}}}`, `{"default":"x","profiles":{}}`} {
		if _, err := profile.Load(write(t, 0o600, text)); err == nil || strings.Contains(err.Error(), "secret-token") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestUpdatesAtTheSameTimeLoseNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sub", "config.json")
	const n = 16
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			err := profile.Update(path, func(c *profile.Config) error {
				c.Profiles[fmt.Sprint(i)] = profile.Profile{Server: here}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	c, err := profile.Load(path)
	if err != nil || len(c.Profiles) != n {
		t.Errorf("%d profiles, %v, want %d", len(c.Profiles), err, n)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".config-*")); err != nil || len(left) > 0 {
		t.Errorf("temporary files: %v, %v", left, err)
	}
}

func TestUpdateKeepsALinkAndRefusesAnExposedFile(t *testing.T) {
	t.Parallel()
	target := write(t, 0o600, `{"profiles":{}}`)
	link := filepath.Join(t.TempDir(), "config.json")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if _, err := profile.Keep(link, profile.Target{Server: here, Workspace: wsA, Token: "new"}, ""); err != nil {
		t.Fatal(err)
	}
	if c, err := profile.Load(target); err != nil || c.Profiles["default"].Token != "new" {
		t.Errorf("the link's target: %+v, %v", c, err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", info, err)
	}
	exposed := write(t, 0o644, `{"profiles":{}}`)
	if _, err := profile.Keep(exposed, profile.Target{Server: here, Workspace: wsA, Token: "new"}, ""); err == nil {
		t.Error("a token was written into a file that others can read")
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.json")
	keep := func(target profile.Target, want string) string {
		t.Helper()
		name, err := profile.Keep(path, target, want)
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	name := keep(profile.Target{Server: here, Workspace: wsA}, "")
	if again := keep(profile.Target{Server: here, Workspace: wsA, Token: "a", Profile: name}, ""); name != "default" || again != name {
		t.Errorf("names %q and %q", name, again)
	}
	if name := keep(profile.Target{Server: there, Workspace: wsB, Token: "b", Profile: "default"}, ""); name != "other.example.org-0b0b0b0b" {
		t.Errorf("a second workspace is kept as %q", name)
	}
	if name := keep(profile.Target{Server: there, Workspace: wsA, Token: "c"}, "named"); name != "named" {
		t.Errorf("a named one is kept as %q", name)
	}
	if _, err := profile.Keep(path, profile.Target{Server: here, Workspace: wsA, Token: "d"}, "named"); err == nil {
		t.Error("another workspace's profile was overwritten")
	}
	want := profile.Config{Default: "default", Profiles: map[string]profile.Profile{
		"default":                    {Server: here, Workspace: wsA, Token: "a"},
		"other.example.org-0b0b0b0b": {Server: there, Workspace: wsB, Token: "b"},
		"named":                      {Server: there, Workspace: wsA, Token: "c"},
	}}
	got, err := profile.Load(path)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	t.Parallel()
	p := profile.Profile{Server: here, Token: "very-secret"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		if text := fmt.Sprintf(verb+verb, p, p.Token); strings.Contains(text, "very-secret") || strings.Contains(text, "766572792d") {
			t.Errorf("%s: %s", verb, text)
		}
	}
	if data, err := json.Marshal(p); err != nil || !strings.Contains(string(data), "very-secret") {
		t.Errorf("the file must have it: %s, %v", data, err)
	}
}
