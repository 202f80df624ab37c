package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/internal/profile"
)

// feed is the workspace's feed, oldest first, as `activity` prints it.
func feed(t *testing.T, env []string) []wire.Activity {
	t.Helper()
	var rows []wire.Activity
	out := want0(t, env, "activity", "--json", "-n", "500")
	for _, line := range lines(out) {
		if line == "" {
			continue
		}
		var row wire.Activity
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		rows = append(rows, row)
	}
	return rows
}

// manifests are the names, types and sizes of the uploads in a feed.
func manifests(t *testing.T, rows []wire.Activity) []string {
	t.Helper()
	var all []string
	for _, row := range rows {
		if deref(row.Method) != wire.MethodChatUpload {
			continue
		}
		var m wire.UploadManifest
		if err := json.Unmarshal(row.RequestBody, &m); err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s %s %d", m.Name, m.MIMEType, m.Size))
	}
	return all
}

// piped runs the program with standard input.
func piped(t *testing.T, env []string, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := command(t, env, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	_ = cmd.Run()
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestUploadFilesFoldersAndStandardInput(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, s.env)
	env := s.user(t, p)
	dir := t.TempDir()
	file(t, dir, "b/inner.json", `{"a":1}`)
	file(t, dir, "b/.hidden", "hidden")
	file(t, dir, "a.txt", "first")
	outside := file(t, t.TempDir(), "outside.txt", "outside")
	if err := os.Symlink(outside, filepath.Join(dir, "c-link")); err != nil {
		t.Fatal(err)
	}
	named := filepath.Join(t.TempDir(), "named-link.txt")
	if err := os.Symlink(outside, named); err != nil {
		t.Fatal(err)
	}
	png := file(t, t.TempDir(), "picture", "\x89PNG\r\n\x1a\n and so on")

	stdout, stderr, code := piped(t, env, "from a pipe", "upload", "-r", dir, named, png, "-", "--name", "piped.csv", "--message", "look <here> & there")
	if code != 0 {
		t.Fatalf("exit code %d:\n%s%s", code, stdout, stderr)
	}
	uris := lines(stdout)
	if len(uris) != 6 {
		t.Fatalf("URIs:\n%s", stdout)
	}
	if !strings.Contains(stderr, "c-link left out") || strings.Count(stderr, "uploaded ") != 6 {
		t.Errorf("said:\n%s", stderr)
	}
	rows := feed(t, env)
	want := []string{
		"a.txt text/plain 5", ".hidden text/plain 6", "inner.json application/json 7",
		"named-link.txt text/plain 7", "picture image/png 18", "piped.csv text/csv 11",
	}
	if diff := cmp.Diff(want, manifests(t, rows)); diff != "" {
		t.Errorf("the feed: %s", diff)
	}
	last := rows[len(rows)-1]
	if deref(last.Method) != wire.MethodMessageSend || !strings.Contains(string(last.RequestBody), "look <here> & there") {
		t.Errorf("the last row is %s %s", deref(last.Method), last.RequestBody)
	}
	for i, uri := range uris {
		if !strings.HasPrefix(uri, "platform-pending:"+s.workspace+"/") || !strings.Contains(string(last.RequestBody), uri) {
			t.Errorf("URI %d is %q, the message is %s", i, uri, last.RequestBody)
		}
	}

	// JSON, and a type for all.
	var u uploaded
	out := want0(t, env, "upload", "--json", "--quiet", "--type", "application/x-own", outside)
	if err := json.Unmarshal([]byte(out), &u); err != nil || strings.Count(out, "\n") != 1 {
		t.Fatalf("%s: %v", out, err)
	}
	if f := u.Files[0]; len(u.Files) != 1 || f.Path != outside || f.Name != "outside.txt" || f.MIMEType != "application/x-own" || f.Size != 7 || f.URI == "" {
		t.Errorf("--json: %+v", u)
	}
	p.stop(t)
}

func TestUploadRefusesBeforeAByteIsSent(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, append(s.env, "MAX_FILE_BYTES=1000", "MAX_REQUEST_BYTES=20000"))
	env := s.user(t, p)
	dir := t.TempDir()
	large, empty, fits := file(t, dir, "large.bin", strings.Repeat("x", 1001)), file(t, dir, "empty.bin", ""), file(t, dir, "fits.bin", strings.Repeat("x", 1000))

	fails(t, exitRefused, []string{"large.bin", "1001", "1000", "nothing was sent"}, env, "upload", fits, large)
	fails(t, exitRefused, []string{"empty.bin", "the file is empty"}, env, "upload", fits, empty)
	if _, stderr, code := piped(t, env, strings.Repeat("x", 1001), "upload", "-"); code != exitRefused || !strings.Contains(stderr, "too large") {
		t.Errorf("standard input: exit code %d, %s", code, stderr)
	}
	if _, stderr, code := piped(t, env, "", "upload", "-"); code != exitRefused || !strings.Contains(stderr, "empty") {
		t.Errorf("empty standard input: exit code %d, %s", code, stderr)
	}
	// Longer than what is read ahead: it turns out while it is sent.
	if _, stderr, code := piped(t, env, strings.Repeat("x", streamHead+1), "upload", "-"); code != exitRefused || !strings.Contains(stderr, "too large") {
		t.Errorf("long standard input: exit code %d, %s", code, stderr)
	}
	if n := s.rows(t, "pending_uploads") + s.rows(t, "activity_logs"); n != 0 {
		t.Errorf("%d rows of refused uploads", n)
	}

	out := fails(t, exitPartly, []string{"2 of 3"}, env, "upload", "--skip-refused", fits, large, empty)
	if strings.Count(out, "\n") != 1 {
		t.Errorf("--skip-refused printed %q", out)
	}
	// The second request fails: what was uploaded is printed, the message is not sent.
	stdout, stderr, code := piped(t, env, strings.Repeat("x", streamHead+1), "upload", fits, "-", "--message", "both")
	if code != exitPartly || strings.Count(stdout, "\n") != 1 || !strings.Contains(stderr, "1 of 2 files uploaded, the message not sent") {
		t.Errorf("partly: exit code %d:\n%s%s", code, stdout, stderr)
	}
	if got := len(feed(t, env)); got != 2 {
		t.Errorf("%d rows, want 2", got)
	}
	p.stop(t)
}

func TestUploadSplitsWhatOneRequestDoesNotTake(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, append(s.env, "MAX_FILE_BYTES=20000", "MAX_REQUEST_BYTES=40000"))
	env := s.user(t, p)
	dir := t.TempDir()
	var want []string
	for i := range 70 {
		n := 1
		if i%20 == 0 {
			n = 20000
		}
		name := fmt.Sprintf("%02d.txt", i)
		file(t, dir, name, strings.Repeat("x", n))
		want = append(want, fmt.Sprintf("%s text/plain %d", name, n))
	}
	if out := want0(t, env, "upload", "-r", dir, "-m", "all of them"); len(lines(out)) != 70 {
		t.Errorf("%d URIs", len(lines(out)))
	}
	rows := feed(t, env)
	if diff := cmp.Diff(want, manifests(t, rows)); diff != "" {
		t.Errorf("the feed: %s", diff)
	}
	if n := strings.Count(string(rows[len(rows)-1].RequestBody), "platform-pending:"); n != 70 {
		t.Errorf("the message cites %d files", n)
	}
	p.stop(t)
}

func TestUploadRepeatedWithItsKeySaysItsMessageOnce(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, s.env)
	env := s.user(t, p)
	path := file(t, t.TempDir(), "a.txt", "content")
	for range 2 {
		want0(t, env, "upload", path, "--message", "once", "--idempotency-key", "the-key")
	}
	messages := 0
	for _, row := range feed(t, env) {
		if deref(row.Method) == wire.MethodMessageSend {
			messages++
		}
	}
	if messages != 1 {
		t.Errorf("%d messages", messages)
	}
	p.stop(t)
}

func TestUploadWarnsOfAMessageThatTheInboxPassesOver(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, append(s.env, "ADMIN_TOKEN="+adminToken))
	path := file(t, t.TempDir(), "a.txt", "content")
	const warning = "its inbox passes over"
	config, err := json.Marshal(profile.Config{Profiles: map[string]profile.Profile{
		"home": {Server: p.url, Workspace: s.workspace, Token: profile.Secret(s.token), AdminToken: adminToken},
	}})
	if err != nil {
		t.Fatal(err)
	}
	both := []string{"PENDINGUPLOADS_CONFIG=" + file(t, t.TempDir(), "config.json", string(config))}
	for name, c := range map[string]struct {
		env  []string
		warn bool
	}{
		"the workspace's token":             {s.user(t, p), true},
		"the administrator's":               {s.person(t, p), false},
		"a profile that has both uses that": {both, false},
	} {
		_, stderr, code := result(t, c.env, "upload", path, "--message", "hello")
		if code != 0 || strings.Contains(stderr, warning) != c.warn {
			t.Errorf("%s: exit code %d:\n%s", name, code, stderr)
		}
	}
	p.stop(t)
}

// What may have been staged is not sent again by a caller that goes by exit codes,
// unless the attempts have a name in common.
func TestUploadWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, s.env)
	path := file(t, t.TempDir(), "a.txt", "content")
	env := append(s.user(t, p), "PENDINGUPLOADS_SERVER="+through(t, p, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/chat/uploads") {
			loseAnswer(r, server)
		}
		server.ServeHTTP(w, r)
	}))
	fails(t, exitFailure, []string{"may have been staged", "pendinguploads activity", "--idempotency-key"}, env, "upload", path)
	if n := s.rows(t, "pending_uploads"); n != 1 {
		t.Errorf("%d files are staged", n)
	}
	fails(t, exitTemporary, nil, env, "upload", path, "--idempotency-key", "the-key")

	busy := append(s.user(t, p), "PENDINGUPLOADS_SERVER="+through(t, p, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/chat/uploads") {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		server.ServeHTTP(w, r)
	}))
	fails(t, exitTemporary, nil, busy, "upload", path, "--patience=-1s")
}

// A service without the route has something else in its place.
func TestUploadGoesOnWithoutLimits(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, s.env)
	path := file(t, t.TempDir(), "a.txt", "content")
	for name, answer := range map[string]func(w http.ResponseWriter){
		"a plain 404": func(w http.ResponseWriter) { http.Error(w, "404 page not found", http.StatusNotFound) },
		"a 404":       func(w http.ResponseWriter) { http.Error(w, `{"error":"not found"}`, http.StatusNotFound) },
		"a page":      func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := append(s.user(t, p), "PENDINGUPLOADS_SERVER="+through(t, p, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
				if r.URL.Path == "/uploads/limits" {
					answer(w)
					return
				}
				server.ServeHTTP(w, r)
			}))
			if out := want0(t, env, "upload", path); !strings.HasPrefix(out, "platform-pending:") {
				t.Errorf("printed %q", out)
			}
		})
	}
}

func TestUploadExitCodes(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, s.env)
	path := file(t, t.TempDir(), "a.txt", "content")
	fails(t, exitUnauthorized, []string{"401", "invalid workspace auth token"}, append(s.user(t, p), "PENDINGUPLOADS_TOKEN=wrong"), "upload", path)
	env := s.user(t, p)
	p.stop(t)
	fails(t, exitTemporary, nil, env, "upload", path, "--patience=-1s")
}
