// Package bench measures the service beside the bare S3 client: same machine,
// same MinIO, same run, taken in turns. It prints ratios, because machines are
// noisy and numbers of their own mean little.
//
//	go test -run '^$' -bench . -benchtime 3s ./test/bench
package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

func TestMain(m *testing.M) { devstack.Main(m) }

// service is a real `pendinguploads serve` in a process of its own.
type service struct {
	url       string
	workspace string
	token     string
	idle      string // a workspace that nothing comes for
	idleToken string
	pid       int
	s3        devstack.S3
	client    *s3.Client
}

var serving = regexp.MustCompile(`msg=serving addr=(\S+)`)

// start builds and starts the service, and stops it when the benchmark ends.
func start(b *testing.B, env ...string) *service {
	b.Helper()
	store := devstack.MinIOUser(b)
	binary := filepath.Join(b.TempDir(), "pendinguploads")
	if out, err := exec.CommandContext(b.Context(), "go", "build", "-o", binary, "../../cmd/pendinguploads").CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	env = append(append(os.Environ(),
		"DATABASE_URL="+devstack.Database(b), "LISTEN_ADDR=127.0.0.1:0", "RATE_LIMIT=0",
		"S3_BUCKET="+store.Bucket, "S3_ENDPOINT="+store.Endpoint, "S3_REGION="+store.Region, "S3_USE_PATH_STYLE="+strconv.FormatBool(store.PathStyle),
		"AWS_ACCESS_KEY_ID="+store.AccessKey, "AWS_SECRET_ACCESS_KEY="+store.SecretKey, "AWS_SESSION_TOKEN="+store.SessionToken,
	), env...)

	create := func(name string) (ws struct {
		ID    string `json:"id"`
		Token string `json:"auth_token"`
	}) {
		cmd := exec.CommandContext(b.Context(), binary, "workspace", "create", name)
		cmd.Env = env
		out, err := cmd.Output()
		if err != nil {
			b.Fatalf("workspace create: %v", err)
		}
		if err := json.Unmarshal(out, &ws); err != nil {
			b.Fatal(err)
		}
		return ws
	}
	ws, idle := create("bench"), create("idle")

	serve := exec.CommandContext(context.WithoutCancel(b.Context()), binary, "serve")
	serve.Env = env
	stderr, err := serve.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := serve.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = serve.Process.Signal(syscall.SIGTERM)
		if err := serve.Wait(); err != nil {
			b.Errorf("serve: %v", err)
		}
	})
	addr := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if m := serving.FindStringSubmatch(lines.Text()); m != nil {
				addr <- m[1]
			} else if strings.Contains(lines.Text(), "level=ERROR") {
				fmt.Fprintln(os.Stderr, lines.Text())
			}
		}
	}()
	select {
	case a := <-addr:
		return &service{url: "http://" + a, workspace: ws.ID, token: ws.Token, idle: idle.ID, idleToken: idle.Token, pid: serve.Process.Pid, s3: store, client: store.Client()}
	case <-time.After(30 * time.Second):
		b.Fatal("serve did not start within 30 s")
		return nil
	}
}

// clear removes all objects, outside the clock, so that disks do not fill.
func (s *service) clear(b *testing.B) {
	b.Helper()
	pages := s3.NewListObjectsV2Paginator(s.client, &s3.ListObjectsV2Input{Bucket: &s.s3.Bucket})
	for pages.HasMorePages() {
		page, err := pages.NextPage(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		var ids []types.ObjectIdentifier
		for _, o := range page.Contents {
			ids = append(ids, types.ObjectIdentifier{Key: o.Key})
		}
		if len(ids) == 0 {
			return
		}
		if _, err := s.client.DeleteObjects(b.Context(), &s3.DeleteObjectsInput{
			Bucket: &s.s3.Bucket, Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)},
		}); err != nil {
			b.Fatal(err)
		}
	}
}

// peakRSS is the most memory the service has held, in bytes (VmHWM of
// /proc/PID/status).
func (s *service) peakRSS(b *testing.B) int64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range bytes.Lines(status) {
		if kb, ok := bytes.CutPrefix(line, []byte("VmHWM:")); ok {
			n, err := strconv.ParseInt(strings.Fields(string(kb))[0], 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return n << 10
		}
	}
	b.Fatal("no VmHWM in /proc/PID/status")
	return 0
}
