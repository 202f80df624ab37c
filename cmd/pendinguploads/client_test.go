package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/molecule-ai/pendinguploads/internal/profile"
)

// user is the environment of somebody who has the stack's workspace and no config
// file.
func (s stack) user(t *testing.T, p *process) []string {
	t.Helper()
	return []string{
		"HOME=" + t.TempDir(), "PENDINGUPLOADS_CONFIG=" + filepath.Join(t.TempDir(), "config.json"),
		"PENDINGUPLOADS_SERVER=" + p.url, "PENDINGUPLOADS_WORKSPACE=" + s.workspace, "PENDINGUPLOADS_TOKEN=" + s.token,
	}
}

// adminToken is the administrator's in tests whose server has one.
const adminToken = "an-administrators-token-of-some-length"

// person is the environment of a user of the stack's workspace, who is not the
// workspace.
func (s stack) person(t *testing.T, p *process) []string {
	t.Helper()
	return slices.Clip(append(s.user(t, p), "PENDINGUPLOADS_TOKEN="+adminToken))
}

// fails runs the program, which must end with code after one line that has each of
// the texts, and returns what it printed.
func fails(t *testing.T, code int, texts []string, env []string, args ...string) string {
	t.Helper()
	stdout, stderr, got := result(t, env, args...)
	if got != code {
		t.Errorf("%v: exit code %d, want %d\n%s%s", args, got, code, stdout, stderr)
	}
	lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
	for _, text := range texts {
		if last := lines[len(lines)-1]; !strings.Contains(last, text) {
			t.Errorf("%v: want %q in the last line:\n%s", args, text, stderr)
		}
	}
	return stdout
}

// file writes a file for a test.
func file(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func lines(text string) []string { return strings.Split(strings.TrimSuffix(text, "\n"), "\n") }

func TestTheWorkspaceSideNamesWhatItLacks(t *testing.T) {
	t.Parallel()
	config := func(text string) string { return "PENDINGUPLOADS_CONFIG=" + file(t, t.TempDir(), "config.json", text) }
	const server, workspace = "PENDINGUPLOADS_SERVER=http://127.0.0.1:1", "PENDINGUPLOADS_WORKSPACE=0a0a0a0a-0000-4000-8000-000000000001"
	for _, c := range []struct {
		env  []string
		args []string
		want []string
	}{
		{nil, []string{"activity"}, []string{"--server", "PENDINGUPLOADS_SERVER", "config.json"}},
		{[]string{server}, []string{"activity"}, []string{"--workspace"}},
		{[]string{server, workspace}, []string{"activity"}, []string{"--token-file", "PENDINGUPLOADS_TOKEN"}},
		{[]string{server, "PENDINGUPLOADS_WORKSPACE=x", "PENDINGUPLOADS_TOKEN=t"}, []string{"activity"}, []string{`"x"`, "UUID"}},
		{[]string{"PENDINGUPLOADS_SERVER=ftp://h", workspace, "PENDINGUPLOADS_TOKEN=t"}, []string{"activity"}, []string{"ftp://h"}},
		{[]string{server, workspace}, []string{"activity", "--token-file", "/nonexistent"}, []string{"/nonexistent"}},
		{[]string{server, workspace, "PENDINGUPLOADS_TOKEN=t"}, []string{"activity", "-n", "501"}, []string{"501"}},
		{[]string{server, workspace, "PENDINGUPLOADS_TOKEN=t"}, []string{"upload"}, []string{"<file>"}},
		{[]string{server, workspace, "PENDINGUPLOADS_TOKEN=t"}, []string{"upload", "/nonexistent"}, []string{"/nonexistent"}},
		{[]string{server, workspace, "PENDINGUPLOADS_TOKEN=t"}, []string{"upload", t.TempDir()}, []string{"-r"}},
		{[]string{server, workspace, "PENDINGUPLOADS_TOKEN=t"}, []string{"upload", "-", "-"}, []string{"standard input"}},
		{[]string{server}, []string{"inbox"}, []string{"--dir"}},
		{[]string{config(`{"profiles":{}}`)}, []string{"activity", "--profile", "home"}, []string{`"home"`}},
		{[]string{config(`{"profiles":{"a":{"tokn":"very-secret"}}}`)}, []string{"activity"}, []string{"tokn"}},
		{nil, []string{"completion", "tcsh"}, []string{"bash"}},
	} {
		fails(t, exitUsage, c.want, c.env, c.args...)
	}
}

func TestProfilesComeAfterFlagsAndEnvironment(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, s.env)
	wrong := []string{"PENDINGUPLOADS_SERVER=http://127.0.0.1:1", "PENDINGUPLOADS_WORKSPACE=0a0a0a0a-0000-4000-8000-000000000001", "PENDINGUPLOADS_TOKEN=wrong-token"}
	config := func(text string) string {
		return "PENDINGUPLOADS_CONFIG=" + file(t, t.TempDir(), "config.json", text)
	}
	entry := func(name, server, workspace, token string) string {
		data, err := json.Marshal(map[string]profile.Profile{name: {Server: server, Workspace: workspace, Token: profile.Secret(token)}})
		if err != nil {
			t.Fatal(err)
		}
		return `{"default":"` + name + `","profiles":` + string(data) + `}`
	}
	good := config(entry("home", p.url, s.workspace, s.token))
	token := file(t, t.TempDir(), "token", s.token+"\n")

	// The file alone; the environment before it; flags before both.
	want0(t, []string{good}, "activity")
	want0(t, []string{good}, "activity", "--profile", "home")
	fails(t, exitTemporary, nil, append([]string{good}, wrong...), "activity", "--patience=-1s")
	fails(t, exitUnauthorized, []string{"token"}, append([]string{good}, wrong[2]), "activity")
	want0(t, append([]string{good}, wrong...), "activity", "--server", p.url, "--workspace", s.workspace, "--token-file", token)
	// What an agent's runtime has in its environment.
	want0(t, []string{"PLATFORM_URL=" + p.url + "/", "WORKSPACE_ID=" + s.workspace, "MOLECULE_WORKSPACE_TOKEN=" + s.token}, "activity")
	// Another server is not given the profile's token: there is none, so nothing is asked.
	fails(t, exitUsage, []string{"no workspace"}, []string{good}, "activity", "--server", "http://127.0.0.1:1")

	// A file that others can read is not used, and not believed when it is asked for.
	exposed := file(t, t.TempDir(), "config.json", entry("home", p.url, s.workspace, s.token))
	if err := os.Chmod(exposed, 0o644); err != nil {
		t.Fatal(err)
	}
	fails(t, exitUsage, []string{"chmod 600"}, nil, "activity", "--config", exposed)

	// A token in argv works and is warned about.
	_, stderr, code := result(t, nil, "activity", "--server", p.url, "--workspace", s.workspace, "--token="+s.token)
	if code != 0 || !strings.Contains(stderr, "can see the token") || strings.Contains(stderr, s.token) {
		t.Errorf("--token: exit code %d:\n%s", code, stderr)
	}
	if err := os.Chmod(token, 0o644); err != nil {
		t.Fatal(err)
	}
	_, stderr, code = result(t, nil, "activity", "--server", p.url, "--workspace", s.workspace, "--token-file", token)
	if code != 0 || !strings.Contains(stderr, "others can read") {
		t.Errorf("--token-file that others can read: exit code %d:\n%s", code, stderr)
	}
	p.stop(t)
}

func TestTokensAreNeverPrinted(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, s.env)
	env := s.user(t, p)
	path := file(t, t.TempDir(), "a.txt", "content")
	dir := filepath.Join(t.TempDir(), "inbox")
	var all bytes.Buffer
	for _, args := range [][]string{
		{"upload", "-v", path, "--message", "hello", "--json"},
		{"activity", "-v", "--json"},
		{"inbox", "-v", "--once", "--dir", dir, "--json", "--exec", "cat >&2"},
		{"inbox", "--help"},
		{"upload", path, "--token", "-" + s.token}, // which the parser takes for a flag
		{"upload", path, "--token=" + s.token, "--patience=" + s.token},
		{"upload", "--workspace", "0a0a0a0a-0000-4000-8000-000000000001", path},
	} {
		stdout, stderr, _ := result(t, env, args...)
		all.WriteString(stdout + stderr)
	}
	p.stop(t)
	for _, secret := range []string{s.token, "Bearer"} {
		if strings.Contains(all.String(), secret) {
			t.Errorf("the output holds %q:\n%s", secret, all.String())
		}
	}
	if strings.Contains(p.text(), s.token) {
		t.Error("the server's log holds the token")
	}
}

func TestHelpShowsExamplesAndExitCodes(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"inbox", "upload", "activity"} {
		help := want0(t, nil, name, "--help")
		for _, want := range []string{"Examples:", "    pendinguploads " + name, "Exit codes: 0", "$PENDINGUPLOADS_SERVER"} {
			if !strings.Contains(help, want) {
				t.Errorf("%s --help lacks %q:\n%s", name, want, help)
			}
		}
	}
}
