package main

import (
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/internal/profile"
)

// home is the profile that an inbox made.
func home(t *testing.T, config string) profile.Profile {
	t.Helper()
	c, err := profile.Load(config)
	if err != nil {
		t.Fatal(err)
	}
	return c.Profiles["default"]
}

// losing answers for a server the first answers of whose registrations are lost.
func losing(t *testing.T, p *process, times int32) string {
	var lost atomic.Int32
	return through(t, p, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.URL.Path == "/registry/register" && lost.Add(1) <= times {
			loseAnswer(r, server)
		}
		server.ServeHTTP(w, r)
	})
}

// The answer with the token is lost: the workspace cannot be had any more, so its
// id, which nobody else knows, gives way to another.
func TestInboxTakesAnotherIDWhereItsTokenWasLost(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	const join = "a-join-token-of-some-length"
	for name, c := range map[string]struct {
		server []string
		args   []string
	}{
		"registration is open":           {[]string{"REGISTRATION=open"}, nil},
		"with the join token":            {[]string{"JOIN_TOKEN=" + join}, []string{"--join-token-file", file(t, t.TempDir(), "join", join)}},
		"with the administrator's":       {[]string{"ADMIN_TOKEN=" + adminToken}, []string{"--join-token-file", file(t, t.TempDir(), "join", adminToken)}},
		"the second one is lost as well": {[]string{"REGISTRATION=open"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := serve(t, append(s.env, c.server...))
			times := int32(1)
			if strings.Contains(name, "second") {
				times = 3 // the first, its repetition, and the first of the second id
			}
			config := filepath.Join(t.TempDir(), "config.json")
			env := []string{"HOME=" + t.TempDir(), "PENDINGUPLOADS_CONFIG=" + config}
			dir := filepath.Join(t.TempDir(), "inbox")
			args := append([]string{"inbox", "--once", "--dir", dir, "--server", losing(t, p, times)}, c.args...)

			// A run that ends with the loss, so that the next one knows of it from the
			// config file alone.
			fails(t, exitTemporary, nil, env, append(args, "--patience=-1s")...)
			before := home(t, config)
			if before.Workspace == "" || before.Token != "" || !before.Fresh {
				t.Fatalf("kept: %+v", before)
			}
			stdout, stderr, code := result(t, env, args...)
			if code != 0 || !strings.Contains(stderr, "taking another id") || !strings.Contains(stderr, "registered workspace") {
				t.Fatalf("exit code %d:\n%s%s", code, stdout, stderr)
			}
			after := home(t, config)
			if after.Workspace == before.Workspace || len(after.Token) != 43 || after.Fresh {
				t.Errorf("kept %+v, before %+v", after, before)
			}
			want0(t, env, "upload", file(t, t.TempDir(), "a.txt", "content"))
			if out := want0(t, env, "inbox", "--once", "--dir", dir); !strings.Contains(out, filepath.Join(dir, "a.txt")) {
				t.Errorf("inbox: %q", out)
			}
			p.stop(t)
		})
	}
}

// An id that somebody chose is kept: only they know what else it stands for.
func TestInboxSaysHowToGetATokenForAWorkspaceThatHoldsOne(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, append(s.env, "REGISTRATION=open", "ADMIN_TOKEN="+adminToken))
	env := []string{"HOME=" + t.TempDir(), "PENDINGUPLOADS_CONFIG=" + filepath.Join(t.TempDir(), "config.json")}
	args := []string{"inbox", "--once", "--dir", filepath.Join(t.TempDir(), "inbox"), "--server", p.url, "--workspace", s.workspace}
	want := []string{"holds a token already", "pendinguploads workspace token " + s.workspace, "--token-file"}
	fails(t, exitUnauthorized, want, env, args...)
	fails(t, exitFailure, want, env, append(args, "--join-token-file", file(t, t.TempDir(), "join", adminToken))...)
	p.stop(t)
}

func TestInboxLeavesARegisteredWorkspaceAlone(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, s.env)
	env := s.user(t, p)
	inbox := []string{"inbox", "--once", "--dir", filepath.Join(t.TempDir(), "inbox")}
	const card = `{"name":"the other runtime","skills":["all"]}`
	body := `{"id":"` + s.workspace + `","agent_card":` + card + `,"delivery_mode":"poll"}`
	if status, text, err := s.do(t, p, "POST", "/registry/register", "application/json", strings.NewReader(body)); status != http.StatusOK {
		t.Fatalf("register: %d %s %v", status, text, err)
	}
	described := func() wire.Workspace {
		t.Helper()
		_, text, err := s.do(t, p, "GET", "/workspaces/"+s.workspace, "", nil)
		var w wire.Workspace
		if err != nil || json.Unmarshal(text, &w) != nil {
			t.Fatalf("describe: %s %v", text, err)
		}
		return w
	}
	run := func(args ...string) (stderr string) {
		t.Helper()
		stdout, stderr, code := result(t, env, append(inbox, args...)...)
		if code != 0 {
			t.Fatalf("exit code %d:\n%s%s", code, stdout, stderr)
		}
		return stderr
	}

	if stderr := run("--name", "mine"); stderr != "" {
		t.Errorf("said: %s", stderr)
	}
	if diff := cmp.Diff(card, string(described().AgentCard)); diff != "" {
		t.Errorf("the agent card (-want +got):\n%s", diff)
	}
	conn, err := pgx.Connect(t.Context(), s.database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if _, err := conn.Exec(t.Context(), `UPDATE workspaces SET delivery_mode = 'push' WHERE id = $1`, s.workspace); err != nil {
		t.Fatal(err)
	}
	if stderr := run(); !strings.Contains(stderr, "push mode") || !strings.Contains(stderr, "--register") {
		t.Errorf("said: %s", stderr)
	}
	if mode := described().DeliveryMode; mode != "push" {
		t.Errorf("the mode is %s", mode)
	}
	if stderr := run("--register", "--name", "mine"); stderr != "" {
		t.Errorf("said: %s", stderr)
	}
	if w := described(); w.DeliveryMode != "poll" || string(w.AgentCard) != `{"name":"mine"}` {
		t.Errorf("after --register: %s, %s", w.DeliveryMode, w.AgentCard)
	}
	fails(t, exitUnauthorized, []string{"does not accept the token", s.workspace}, append(env, "PENDINGUPLOADS_TOKEN=wrong"), inbox...)
	p.stop(t)
}
