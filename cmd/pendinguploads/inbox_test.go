package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/internal/profile"
)

// event is a line of `inbox --json`.
type event struct {
	Event  string      `json:"event"`
	ID     string      `json:"id"`
	Path   string      `json:"path"`
	SHA256 string      `json:"sha256"`
	Text   string      `json:"text"`
	Files  []fileEvent `json:"files"`
}

func events(t *testing.T, out string) []event {
	t.Helper()
	var all []event
	for _, line := range lines(out) {
		if line == "" {
			continue
		}
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, e)
	}
	return all
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(data)
	}
	return all
}

func TestInboxOnceDrainsAndRunsTheCommand(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, append(s.env, "ADMIN_TOKEN="+adminToken))
	env, person := s.user(t, p), s.person(t, p)
	dir, seen := filepath.Join(t.TempDir(), "in box"), t.TempDir()
	src := t.TempDir()
	want0(t, person, "upload", file(t, src, "a file.txt", "first"), file(t, src, "b.bin", "second"), "--message", "two files")
	want0(t, env, "upload", file(t, src, "c.txt", "third"))

	// The command fails once, and is run again with the same.
	handler := file(t, seen, "handler", `
cat > "$SEEN/stdin"
printf '%s\n' "$@" > "$SEEN/args"
env | grep ^PENDINGUPLOADS_ | sort > "$SEEN/env"
echo to-stdout
echo once >> "$SEEN/runs"
[ "$(wc -l < "$SEEN/runs")" -ge 2 ]
`)
	stdout, stderr, code := result(t, append(env, "SEEN="+seen), "inbox", "--once", "--json", "--dir", dir, "--exec", "sh "+handler)
	if code != 0 || !strings.Contains(stderr, "exit status 1") || !strings.Contains(stderr, "to-stdout") {
		t.Fatalf("exit code %d:\n%s%s", code, stdout, stderr)
	}
	if diff := cmp.Diff(map[string]string{"a_file.txt": "first", "b.bin": "second", "c.txt": "third"}, contents(t, dir)); diff != "" {
		t.Errorf("the folder: %s", diff)
	}
	all := events(t, stdout)
	var files []string
	for _, e := range all {
		if e.Event == "file" {
			files = append(files, e.Path)
		}
	}
	slices.Sort(files)
	a, b := filepath.Join(dir, "a_file.txt"), filepath.Join(dir, "b.bin")
	if diff := cmp.Diff([]string{a, b, filepath.Join(dir, "c.txt")}, files); diff != "" {
		t.Errorf("files: %s", diff)
	}
	i := slices.IndexFunc(all, func(e event) bool { return e.Event == "message" })
	if i < 0 || len(all) != 4 || all[i].Text != "two files" || len(all[i].Files) != 2 || all[i].Files[0].Path != a {
		t.Fatalf("events: %+v", all)
	}
	got := contents(t, seen)
	if got["args"] != a+"\n"+b+"\n" || got["runs"] != "once\nonce\n" {
		t.Errorf("arguments %q, runs %q", got["args"], got["runs"])
	}
	if input := got["stdin"]; strings.Count(input, "\n") != 1 || !strings.Contains(input, `"uri":"workspace:`+a+`"`) || strings.Contains(input, s.token) {
		t.Errorf("standard input: %s", input)
	}
	for _, want := range []string{"ACTIVITY_ID=" + all[i].ID, "METHOD=message/send", "SERVER=" + p.url, "WORKSPACE=" + s.workspace, "DIR=" + dir} {
		if !strings.Contains(got["env"], "PENDINGUPLOADS_"+want+"\n") {
			t.Errorf("the environment lacks %s:\n%s", want, got["env"])
		}
	}
	if out := want0(t, env, "inbox", "--once", "--dir", dir); out != "" {
		t.Errorf("a second run: %q", out)
	}
	p.stop(t)
}

func TestInboxRegistersAndKeepsItsToken(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	const join = "a-join-token-of-some-length"
	p := serve(t, append(s.env, "JOIN_TOKEN="+join))
	config := filepath.Join(t.TempDir(), "sub", "config.json")
	env := []string{"HOME=" + t.TempDir(), "PENDINGUPLOADS_CONFIG=" + config}
	dir := filepath.Join(t.TempDir(), "inbox")
	inbox := []string{"inbox", "--once", "--dir", dir}

	fails(t, exitUsage, []string{"no server"}, env, inbox...)
	fails(t, exitUnauthorized, []string{"--join-token-file"}, env, append(inbox, "--server", p.url)...)
	before, err := profile.Load(config)
	if err != nil || before.Profiles["default"].Workspace == "" || before.Profiles["default"].Token != "" {
		t.Fatalf("after a refusal: %+v, %v", before, err)
	}
	stdout, stderr, code := result(t, env, append(inbox, "--join-token-file", file(t, t.TempDir(), "join", join))...)
	if code != 0 || !strings.Contains(stderr, "registered workspace") {
		t.Fatalf("exit code %d:\n%s%s", code, stdout, stderr)
	}
	after, err := profile.Load(config) // which refuses a file that others can read
	if err != nil {
		t.Fatal(err)
	}
	home := after.Profiles["default"]
	if home.Workspace != before.Profiles["default"].Workspace || home.Server != p.url || len(home.Token) != 43 {
		t.Errorf("kept: %+v", home)
	}
	for _, secret := range []string{join, home.Token.Reveal()} {
		if strings.Contains(stdout+stderr, secret) {
			t.Errorf("a token was printed:\n%s%s", stdout, stderr)
		}
	}

	// From now on nothing needs to be said but the folder.
	want0(t, env, "upload", file(t, t.TempDir(), "a.txt", "content"))
	if out := want0(t, env, inbox...); !strings.Contains(out, filepath.Join(dir, "a.txt")) {
		t.Errorf("inbox: %q", out)
	}
	// A second workspace beside it, under a name of its own.
	want0(t, append(env, "PENDINGUPLOADS_JOIN_TOKEN="+join), "inbox", "--once", "--dir", dir+"2", "--profile", "second", "--server", p.url)
	both, err := profile.Load(config)
	if err != nil || len(both.Profiles) != 2 || both.Default != "default" || both.Profiles["second"].Workspace == home.Workspace || both.Profiles["second"].Token == "" {
		t.Errorf("a second profile: %+v, %v", both, err)
	}
	want0(t, env, "activity", "--profile", "second")
	p.stop(t)
}

func TestInboxReceivesAsItComesAndStopsCleanly(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, append(s.env, "ADMIN_TOKEN="+adminToken))
	env, person := s.user(t, p), s.person(t, p)
	dir, seen := filepath.Join(t.TempDir(), "inbox"), t.TempDir()
	// The command leaves a process in its group that does not end by itself.
	r := start(t, append(env, "SEEN="+seen), "inbox", "--dir", dir, "--uri-style", "file", "--exec", `sleep 600 & echo $! > "$SEEN/pid.new"; cat > "$SEEN/stdin"; mv "$SEEN/pid.new" "$SEEN/pid"; wait; :`)
	want0(t, person, "upload", file(t, t.TempDir(), "big.bin", strings.Repeat("x", 1<<20)), "--message", "hello")
	if line := r.next("big.bin"); !strings.Contains(line, "file  1.0 MiB  "+filepath.Join(dir, "big.bin")) {
		t.Errorf("a file's line: %q", line)
	}
	pidFile := filepath.Join(seen, "pid")
	eventually(t, "the command runs", func() bool { _, err := os.Stat(pidFile); return err == nil })
	got := contents(t, seen)
	pid, err := strconv.Atoi(strings.TrimSpace(got["pid"]))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got["stdin"], `"file://`+dir+`/big.bin"`) {
		t.Errorf("standard input: %s", got["stdin"])
	}
	if stderr, code := r.stop(); code != 0 {
		t.Errorf("stopped: exit code %d:\n%s", code, stderr)
	}
	eventually(t, "the command's process has ended", func() bool { return !alive(pid) })

	// The message was not handled: it comes again.
	out := want0(t, env, "inbox", "--once", "--dir", dir)
	if !strings.Contains(out, "message  user  hello  ["+filepath.Join(dir, "big.bin")+"]") {
		t.Errorf("the next run: %q", out)
	}
	p.stop(t)
}

// alive reports a process that is more than a zombie.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !strings.Contains(string(stat), ") Z ")
}

func TestInboxExitCodes(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, append(s.env, "ADMIN_TOKEN="+adminToken))
	env, person := s.user(t, p), s.person(t, p)
	dir := filepath.Join(t.TempDir(), "inbox")
	want0(t, person, "upload", file(t, t.TempDir(), "a.txt", "content"), "--message", "hello")

	fails(t, exitUsage, []string{"journal"}, env, "inbox", "--once", "--dir", dir, "--journal", filepath.Join(dir, "journal"))
	fails(t, exitUsage, []string{"--exec"}, env, "inbox", "--once", "--dir", dir, "--exec", " ")
	fails(t, exitUsage, []string{"--attempts"}, env, "inbox", "--once", "--dir", dir, "--attempts", "0")
	fails(t, exitTemporary, []string{"no space"}, env, "inbox", "--once", "--dir", dir+"-full", "--min-free", strconv.Itoa(1<<60))
	out := fails(t, exitPartly, []string{"1 messages skipped"}, env, "inbox", "--once", "--dir", dir, "--exec", "false", "--attempts", "1")
	if !strings.Contains(out, filepath.Join(dir, "a.txt")) || strings.Contains(out, "hello") {
		t.Errorf("printed: %q", out)
	}
	notFolder := file(t, t.TempDir(), "file", "")
	fails(t, exitFailure, []string{notFolder}, env, "inbox", "--once", "--dir", notFolder)
	r := start(t, env, "inbox", "--dir", dir)
	want0(t, env, "upload", file(t, t.TempDir(), "b.txt", "content"))
	r.next("b.txt")
	fails(t, exitFailure, []string{"another inbox"}, env, "inbox", "--once", "--dir", dir)
	if stderr, code := r.stop(); code != 0 {
		t.Errorf("stopped: exit code %d:\n%s", code, stderr)
	}
	fails(t, exitUnauthorized, []string{"token"}, append(env, "PENDINGUPLOADS_TOKEN=wrong"), "inbox", "--dir", dir)
	p.stop(t)
	fails(t, exitTemporary, nil, env, "inbox", "--once", "--dir", dir, "--patience=-1s")
}

// The service goes away, or something else stands in its place, once the inbox has
// begun: with --once that is worth another run.
func TestInboxOnceEndsWhereTheServiceGoesAway(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, s.env)
	for name, refuse := range map[string]func(w http.ResponseWriter){
		"a proxy that finds nobody": func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) },
		"a log-in page":             func(w http.ResponseWriter) { http.Error(w, "<html>log in</html>", http.StatusForbidden) },
		"a broken connection":       func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := through(t, p, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
				if strings.HasSuffix(r.URL.Path, "/activity") {
					refuse(w)
					return
				}
				server.ServeHTTP(w, r)
			})
			env := append(s.user(t, p), "PENDINGUPLOADS_SERVER="+proxy)
			fails(t, exitTemporary, []string{"feed"}, env, "inbox", "--once", "--dir", filepath.Join(t.TempDir(), "inbox"), "--patience", "300ms")
		})
	}
}

func TestInboxWaitsForAServiceThatIsNotThereYet(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, s.env)
	addr := strings.TrimPrefix(p.url, "http://")
	env := s.user(t, p)
	p.stop(t)
	dir := filepath.Join(t.TempDir(), "inbox")
	r := start(t, env, "inbox", "--dir", dir, "--patience", "100ms")
	p = serve(t, append(s.env, "LISTEN_ADDR="+addr))
	want0(t, env, "upload", file(t, t.TempDir(), "a.txt", "content"))
	r.next("a.txt")
	if stderr, code := r.stop(); code != 0 {
		t.Errorf("stopped: exit code %d:\n%s", code, stderr)
	}
	// One that never came: a stop is clean all the same.
	p.stop(t)
	r = start(t, env, "inbox", "--dir", dir+"2", "--patience", "100ms")
	eventually(t, "it tries", func() bool { return strings.Contains(r.stderr(), "trying again") })
	if stderr, code := r.stop(); code != 0 {
		t.Errorf("stopped: exit code %d:\n%s", code, stderr)
	}
}
