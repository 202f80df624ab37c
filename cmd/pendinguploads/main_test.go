package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// binary builds the program once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "pendinguploads-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "pendinguploads")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", &buildError{out, err}
	}
	return path, nil
})

type buildError struct {
	out []byte
	err error
}

func (e *buildError) Error() string { return e.err.Error() + "\n" + string(e.out) }

func TestMain(m *testing.M) {
	devstack.Main(m, func() error {
		path, err := binary()
		if err != nil {
			return err
		}
		return os.RemoveAll(filepath.Dir(path))
	})
}

// command is the program with nothing of this process's configuration.
func command(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), path, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	return cmd
}

// result runs the program to its end.
func result(t *testing.T, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := command(t, env, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run()
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// want0 runs the program, which must succeed, and returns what it printed.
func want0(t *testing.T, env []string, args ...string) string {
	t.Helper()
	stdout, stderr, code := result(t, env, args...)
	if code != 0 {
		t.Fatalf("%v: exit code %d\n%s%s", args, code, stdout, stderr)
	}
	return stdout
}

func s3Env(s devstack.S3) []string {
	return []string{
		"S3_BUCKET=" + s.Bucket, "S3_ENDPOINT=" + s.Endpoint, "S3_REGION=" + s.Region, "S3_USE_PATH_STYLE=" + strconv.FormatBool(s.PathStyle),
		"AWS_ACCESS_KEY_ID=" + s.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.SecretKey, "AWS_SESSION_TOKEN=" + s.SessionToken,
	}
}

func TestAWrongValueStopsTheStartWithOneLineThatNamesIt(t *testing.T) {
	t.Parallel()
	const db = "DATABASE_URL=postgres://nobody@127.0.0.1:1/x"
	for _, c := range []struct {
		env  []string
		want string
	}{
		{nil, "DATABASE_URL"},
		{[]string{"DATABASE_URL=postgres://u:hunter2@127.0.0.1:1/x"}, "DATABASE_URL"},
		{[]string{"DATABASE_URL=http://u:hunter2@h/x"}, "DATABASE_URL"},
		{[]string{db, "MAX_FILE_BYTES=many"}, "MAX_FILE_BYTES"},
		{[]string{db, "MAX_FILE_BYTES=104857601"}, "MAX_FILE_BYTES"},
		{[]string{db, "MAX_REQUEST_BYTES=26214400"}, "MAX_REQUEST_BYTES"},
		{[]string{db, "WORKSPACE_MAX_BYTES=26214399"}, "WORKSPACE_MAX_BYTES is 26214399, want 0 for no quota, or MAX_FILE_BYTES (26214400) or more"},
		{[]string{db, "WORKSPACE_MAX_FILES=-1"}, "WORKSPACE_MAX_FILES"},
		{[]string{db, "UPLOAD_MEMORY_BYTES=1"}, "UPLOAD_MEMORY_BYTES"},
		{[]string{db, "INLINE_MAX_BYTES=-1"}, "INLINE_MAX_BYTES"},
		{[]string{db, "UPLOAD_TTL=0s"}, "UPLOAD_TTL"},
		{[]string{db, "ORPHAN_GRACE=30m"}, "ORPHAN_GRACE"},
		{[]string{db, "DIRECT_TTL=10ms"}, "DIRECT_TTL"},
		{[]string{db, "DIRECT_TTL=-1m"}, "DIRECT_TTL"},
		{[]string{db, "SWEEP_INTERVAL=5"}, "SWEEP_INTERVAL"},
		{[]string{db, "SWEEP_INTERVAL=-5m"}, "SWEEP_INTERVAL"},
		{[]string{db, "LISTEN_ADDR=8080"}, "LISTEN_ADDR"},
		{[]string{db, "S3_ENDPOINT=localhost:9000"}, "S3_ENDPOINT"},
		{[]string{db, "S3_PREFIX=/x"}, "S3_PREFIX"},
		{[]string{db, "PUBLIC_URL=example"}, "PUBLIC_URL"},
		{[]string{db, "REGISTRATION=maybe"}, "registration"},
		{[]string{db, "LOG_LEVEL=loud"}, "log-level"},
		{[]string{db, "RATE_LIMIT=-1"}, "RATE_LIMIT"},
		{[]string{db, "ACTIVITY_RETENTION_DAYS=0"}, "ACTIVITY_RETENTION_DAYS"},
	} {
		stdout, stderr, code := result(t, c.env, "serve")
		if code == 0 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, c.want) || strings.Contains(stderr, "hunter2") {
			t.Errorf("%v: exit code %d, want one line with %s:\n%s%s", c.env, code, c.want, stdout, stderr)
		}
	}
}

func TestHelpExplainsEachSettingWithItsVariable(t *testing.T) {
	t.Parallel()
	help := want0(t, nil, "serve", "--help")
	for _, name := range []string{
		"LISTEN_ADDR", "METRICS_ADDR", "DATABASE_URL", "S3_BUCKET", "S3_ENDPOINT", "S3_REGION", "S3_USE_PATH_STYLE", "S3_PREFIX",
		"ADMIN_TOKEN", "REGISTRATION", "MAX_FILE_BYTES", "MAX_REQUEST_BYTES", "UPLOAD_TTL", "ACK_RETENTION", "SWEEP_INTERVAL",
		"READ_AFTER_ACK", "INLINE_MAX_BYTES", "UPLOAD_MEMORY_BYTES", "CORS_ORIGINS", "LOG_FORMAT", "LOG_LEVEL",
	} {
		if !strings.Contains(help, "$"+name) {
			t.Errorf("--help lacks %s", name)
		}
	}
	for _, def := range []string{":8080", "26214400", "52428800", "24h", "1h", "5m", "268435456", "http://localhost:3000"} {
		if !strings.Contains(help, def) {
			t.Errorf("--help lacks the default %s", def)
		}
	}
}

func TestMigrateUpStatusDown(t *testing.T) {
	t.Parallel()
	env := []string{"DATABASE_URL=" + devstack.EmptyDatabase(t)}
	if out := want0(t, env, "migrate", "status"); !strings.Contains(out, "  pending\n") {
		t.Errorf("status of an empty database:\n%s", out)
	}
	if out := want0(t, env, "migrate", "up"); !strings.Contains(out, "applied uploads") || !strings.Contains(out, "applied service") {
		t.Errorf("up:\n%s", out)
	}
	if out := want0(t, env, "migrate", "up"); out != "nothing to do\n" {
		t.Errorf("up again:\n%s", out)
	}
	if out := want0(t, env, "migrate", "status"); strings.Contains(out, "  pending\n") {
		t.Errorf("status:\n%s", out)
	}
	if out := want0(t, env, "migrate", "down"); !strings.Contains(out, "rolled back service") {
		t.Errorf("down:\n%s", out)
	}
	want0(t, env, "migrate", "up")
}

func TestServeRefusesAnOldSchemaUnlessItMayMigrate(t *testing.T) {
	t.Parallel()
	env := []string{"DATABASE_URL=" + devstack.EmptyDatabase(t), "LISTEN_ADDR=127.0.0.1:0"}
	if _, stderr, code := result(t, env, "sweep"); code != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "migrate up") {
		t.Errorf("sweep: exit code %d:\n%s", code, stderr)
	}
	_, stderr, code := result(t, env, "serve")
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	if last := lines[len(lines)-1]; code != 1 || !strings.Contains(last, "migrate up") {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
	p := serve(t, append(env, "MIGRATE=true"))
	p.stop(t)
}

func TestAnUnreachableServerIsNamedInOneLine(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String() // once it is closed
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	db := "DATABASE_URL=" + devstack.Database(t)
	s := s3Env(devstack.S3{Bucket: "files", Endpoint: "http://" + nobody, Region: "us-east-1", PathStyle: true, AccessKey: "somebody", SecretKey: "hunter22"})
	for _, args := range [][]string{{"serve"}, {"sweep"}} {
		for want, env := range map[string][]string{
			"S3_ENDPOINT":  append(s, db, "LISTEN_ADDR=127.0.0.1:0"),
			"DATABASE_URL": {"DATABASE_URL=postgres://u:hunter22@" + nobody + "/x"},
		} {
			_, stderr, code := result(t, env, args...)
			if code != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, want) || !strings.Contains(stderr, nobody) || strings.Contains(stderr, "hunter22") {
				t.Errorf("%v: exit code %d, want one line with %s:\n%s", args, code, want, stderr)
			}
		}
	}
}

func TestABucketThatIsAbsentIsAnErrorOrIsCreated(t *testing.T) {
	t.Parallel()
	s := devstack.MinIO(t)
	s.Bucket += "-absent"
	env := append(s3Env(s), "DATABASE_URL="+devstack.Database(t), "LISTEN_ADDR=127.0.0.1:0")
	_, stderr, code := result(t, env, "serve")
	if code != 1 || !strings.Contains(stderr, "S3_BUCKET") || !strings.Contains(stderr, "S3_CREATE_BUCKET") {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
	p := serve(t, append(env, "S3_CREATE_BUCKET=true"))
	p.stop(t)
	if err := s.RemoveBucket(t.Context()); err != nil {
		t.Errorf("the bucket was not created: %v", err)
	}
}

func TestWorkspaceCommands(t *testing.T) {
	t.Parallel()
	env := []string{"DATABASE_URL=" + devstack.Database(t)}
	var ws struct {
		ID    string `json:"id"`
		Mode  string `json:"delivery_mode"`
		Token string `json:"auth_token"`
	}
	out := want0(t, env, "workspace", "create", "laptop")
	if err := json.Unmarshal([]byte(out), &ws); err != nil || ws.Mode != "poll" || len(ws.Token) != 43 {
		t.Fatalf("create: %s, %v", out, err)
	}
	if out := want0(t, env, "workspace", "list"); !strings.Contains(out, ws.ID) || !strings.Contains(out, "laptop") || strings.Contains(out, ws.Token) {
		t.Errorf("list:\n%s", out)
	}
	if out := want0(t, env, "workspace", "token", ws.ID); !regexp.MustCompile(`^[A-Za-z0-9_-]{43}\n$`).MatchString(out) {
		t.Errorf("token: %q", out)
	}
	want0(t, env, "workspace", "delete", ws.ID)
	if out := want0(t, env, "workspace", "list"); strings.Contains(out, ws.ID) {
		t.Errorf("a deleted workspace is listed:\n%s", out)
	}
	if _, stderr, code := result(t, env, "workspace", "token", ws.ID); code != 1 || strings.Count(stderr, "\n") != 1 {
		t.Errorf("token of a deleted workspace: exit code %d, %s", code, stderr)
	}
	for _, args := range [][]string{{"token", "x"}, {"delete", "x"}, {"create", "a", "--id", "x"}} {
		if _, stderr, code := result(t, env, append([]string{"workspace"}, args...)...); code == 0 || !strings.Contains(stderr, "UUID") {
			t.Errorf("%v: exit code %d, %s", args, code, stderr)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	if out := want0(t, nil, "version"); !strings.HasPrefix(out, "pendinguploads ") {
		t.Errorf("%q", out)
	}
}
