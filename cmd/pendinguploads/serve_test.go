package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/jackc/pgx/v5"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

// process is a running `serve`.
type process struct {
	cmd  *exec.Cmd
	url  string
	done chan struct{} // closed when it has ended

	mu  sync.Mutex
	log []string
}

var servingLine = regexp.MustCompile(`msg=serving addr=(\S+)`)

// serve starts the server and waits until it serves.
func serve(t *testing.T, env []string) *process {
	t.Helper()
	p := &process{cmd: command(t, env, "serve"), done: make(chan struct{})}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr := make(chan string, 1)
	go func() {
		defer close(p.done)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			p.mu.Lock()
			p.log = append(p.log, lines.Text())
			p.mu.Unlock()
			if m := servingLine.FindStringSubmatch(lines.Text()); m != nil {
				addr <- m[1]
			}
		}
		_ = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
	})
	select {
	case a := <-addr:
		p.url = "http://" + a
	case <-p.done:
		t.Fatalf("serve ended:\n%s", p.text())
	case <-time.After(time.Minute):
		t.Fatalf("serve did not start:\n%s", p.text())
	}
	return p
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.log, "\n")
}

// stop ends the server with SIGTERM and wants a clean end.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-p.done
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.text())
	}
}

// stack is a database, a bucket and a workspace.
type stack struct {
	env       []string
	database  string
	s3        devstack.S3
	workspace string
	token     string
}

func newStack(t *testing.T) stack {
	t.Helper()
	return newStackOn(t, devstack.MinIO(t))
}

// newStackOn is newStack with a bucket of the caller's; direct uploads need
// devstack.MinIOUser's.
func newStackOn(t *testing.T, s3 devstack.S3) stack {
	t.Helper()
	s := stack{database: devstack.Database(t), s3: s3}
	// Clipped: tests that run at the same time append to it.
	s.env = slices.Clip(append(s3Env(s.s3), "DATABASE_URL="+s.database, "LISTEN_ADDR=127.0.0.1:0"))
	var ws struct {
		ID    string `json:"id"`
		Token string `json:"auth_token"`
	}
	if err := json.Unmarshal([]byte(want0(t, s.env, "workspace", "create", "laptop")), &ws); err != nil {
		t.Fatal(err)
	}
	s.workspace, s.token = ws.ID, ws.Token
	return s
}

func (s stack) do(t *testing.T, p *process, method, path, contentType string, body io.Reader) (int, []byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, p.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, text, err
}

func (s stack) rows(t *testing.T, table string) int {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	var n int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM "+pgx.Identifier{table}.Sanitize()).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func (s stack) objects(t *testing.T) (*s3blob.Store, *blob.Pool) {
	t.Helper()
	pool, err := blob.NewPool(blob.PoolConfig{})
	if err != nil {
		t.Fatal(err)
	}
	store, err := s3blob.Open(t.Context(), s3blob.Config{
		Bucket: s.s3.Bucket, Region: s.s3.Region, Endpoint: s.s3.Endpoint, PathStyle: s.s3.PathStyle, Pool: pool,
		Credentials: credentials.NewStaticCredentialsProvider(s.s3.AccessKey, s.s3.SecretKey, s.s3.SessionToken),
	})
	if err != nil {
		t.Fatal(err)
	}
	return store, pool
}

// inBucket counts objects and unfinished uploads.
func (s stack) inBucket(t *testing.T) (objects, unfinished int) {
	t.Helper()
	store, _ := s.objects(t)
	for _, err := range store.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		objects++
	}
	for _, err := range store.ListUnfinished(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		unfinished++
	}
	return objects, unfinished
}

// slowUpload is an upload whose body goes out as the test wants it.
type slowUpload struct {
	part   io.Writer
	form   *multipart.Writer
	pipe   *io.PipeWriter
	status chan int // 0 for a broken connection
	reply  []byte
}

func (s stack) beginUpload(t *testing.T, p *process) *slowUpload {
	t.Helper()
	r, w := io.Pipe()
	u := &slowUpload{form: multipart.NewWriter(w), pipe: w, status: make(chan int, 1)}
	go func() {
		status, reply, err := s.do(t, p, http.MethodPost, "/workspaces/"+s.workspace+"/chat/uploads", u.form.FormDataContentType(), r)
		if err != nil {
			status = 0
		}
		u.reply = reply
		_ = r.CloseWithError(errors.New("request is over"))
		u.status <- status
	}()
	part, err := u.form.CreateFormFile("files", "big.bin")
	if err != nil {
		t.Fatal(err)
	}
	u.part = part
	return u
}

func (u *slowUpload) finish(t *testing.T) int {
	t.Helper()
	if err := u.form.Close(); err != nil {
		t.Fatal(err)
	}
	if err := u.pipe.Close(); err != nil {
		t.Fatal(err)
	}
	return <-u.status
}

// abandon ends the body in the middle; the client's transport waits for that
// even when the server is gone.
func (u *slowUpload) abandon() int {
	_ = u.pipe.CloseWithError(errors.New("sender is gone"))
	return <-u.status
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not within 30 s: %s", what)
		case <-tick.C:
		}
	}
}

func TestKillDuringAnUploadLosesNothingAndLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, s.env)
	u := s.beginUpload(t, p)
	if _, err := u.part.Write(bytes.Repeat([]byte("0123456789abcdef"), 12<<16)); err != nil { // 12 MiB: two parts and some
		t.Fatal(err)
	}
	eventually(t, "a multipart upload is under way", func() bool { _, n := s.inBucket(t); return n == 1 })
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.done
	if status := u.abandon(); status != 0 {
		t.Fatalf("the upload was answered %d", status)
	}
	if n := s.rows(t, "pending_uploads") + s.rows(t, "activity_logs"); n != 0 {
		t.Errorf("%d rows of an upload that never ended", n)
	}

	p = serve(t, s.env)
	u = s.beginUpload(t, p)
	if _, err := u.part.Write([]byte("again")); err != nil {
		t.Fatal(err)
	}
	if status := u.finish(t); status != http.StatusOK {
		t.Fatalf("the retry: %d %s", status, u.reply)
	}
	if n := s.rows(t, "pending_uploads"); n != 1 {
		t.Errorf("%d rows after the retry, want 1", n)
	}
	p.stop(t)

	// Two hours later by the sweeper's clock.
	objects, _ := s.objects(t)
	db, err := metadata.Open(t.Context(), metadata.PoolConfig{URL: s.database})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	later, err := staging.New(staging.Config{
		Rows: metadata.NewUploads(metadata.UploadsConfig{DB: db}), Objects: objects, KeyPrefix: "pending-uploads",
		Now: func() time.Time { return time.Now().Add(2 * time.Hour) }, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := later.SweepOrphans(t.Context(), time.Hour)
	if err != nil || r.Uploads != 1 || r.Objects != 0 {
		t.Errorf("orphans: %+v, %v; want the one unfinished upload", r, err)
	}
	if n, unfinished := s.inBucket(t); n != 1 || unfinished != 0 {
		t.Errorf("%d objects and %d unfinished uploads, want the retry's object alone", n, unfinished)
	}
}

func TestSIGTERMDrainsARunningUpload(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, s.env)
	u := s.beginUpload(t, p)
	if _, err := u.part.Write(make([]byte, 6<<20)); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "new connections are refused", func() bool {
		_, _, err := s.do(t, p, http.MethodGet, "/health", "", nil)
		return err != nil
	})
	if _, err := u.part.Write(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if status := u.finish(t); status != http.StatusOK {
		t.Errorf("the running upload: %d %s", status, u.reply)
	}
	<-p.done
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, p.text())
	}
	if n := s.rows(t, "pending_uploads"); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}

func TestASecondSignalExitsAtOnce(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, s.env)
	u := s.beginUpload(t, p)
	if _, err := u.part.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server drains", func() bool { return strings.Contains(p.text(), "shutting down") })
	select {
	case <-p.done:
		t.Fatalf("the server did not wait for the upload:\n%s", p.text())
	default:
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-p.done
	if status := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGTERM {
		t.Errorf("ended with %v, want the signal itself", p.cmd.ProcessState)
	}
	u.abandon()
}

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, s.env)
	addr := strings.TrimPrefix(p.url, "http://")
	want0(t, []string{"LISTEN_ADDR=" + addr}, "healthcheck")
	p.stop(t)
	if _, stderr, code := result(t, []string{"LISTEN_ADDR=" + addr}, "healthcheck"); code != 1 || strings.Count(stderr, "\n") != 1 {
		t.Errorf("a stopped server: exit code %d, %s", code, stderr)
	}
}

func TestWellKnownCredentialsAreWarnedAboutAndNeverLogged(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, append(s.env, "ADMIN_TOKEN=hunter2", "REGISTRATION=open"))
	p.stop(t)
	log := p.text()
	if !strings.Contains(log, "ADMIN_TOKEN is short") || !strings.Contains(log, "REGISTRATION is open") {
		t.Errorf("no warnings:\n%s", log)
	}
	for _, secret := range []string{"hunter2", s.s3.SecretKey, s.token} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds a secret:\n%s", log)
		}
	}
}

func TestUploadsNeverTouchLocalDisk(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	tmp := t.TempDir()
	p := serve(t, append(s.env, "TMPDIR="+tmp))
	u := s.beginUpload(t, p)
	if _, err := u.part.Write(make([]byte, 12<<20)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a multipart upload is under way", func() bool { _, n := s.inBucket(t); return n == 1 })
	// The server has no file open but its sockets, pipes and the like.
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.cmd.Process.Pid))
	if err != nil || len(fds) == 0 {
		t.Fatalf("%d open files, %v", len(fds), err)
	}
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		if err == nil && strings.HasPrefix(target, "/") && !strings.HasPrefix(target, "/dev/") && !strings.HasPrefix(target, "/sys/") && !strings.HasPrefix(target, "/proc/") {
			t.Errorf("the server has %s open", target)
		}
	}
	if status := u.finish(t); status != http.StatusOK {
		t.Fatalf("upload: %d %s", status, u.reply)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
		t.Errorf("temporary files: %v, %v", left, err)
	}
	p.stop(t)
}
