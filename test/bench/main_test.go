// Package bench measures the service beside the bare S3 client: same machine,
// same MinIO, same run, taken in turns. It prints ratios, because machines are
// noisy and numbers of their own mean little.
//
//	go test -run '^$' -bench . -benchtime 3s ./test/bench
package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/servertest"
)

func TestMain(m *testing.M) {
	if os.Getenv(relayVariable) != "" {
		fmt.Fprintln(os.Stderr, relay())
		os.Exit(1)
	}
	servertest.Main(m)
}

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

// start starts the service, and stops it when the benchmark ends.
func start(b *testing.B, env ...string) *service {
	b.Helper()
	stack := servertest.NewStack(b, env...)
	id, token := stack.Workspace(b, "bench")
	idle, idleToken := stack.Workspace(b, "idle")
	server := stack.Serve(b)
	b.Cleanup(func() {
		server.Stop(b)
		for line := range strings.Lines(server.Log()) {
			if strings.Contains(line, "level=ERROR") {
				b.Error(line)
			}
		}
	})
	return &service{
		url: server.URL, workspace: id.String(), token: token, idle: idle.String(), idleToken: idleToken,
		pid: server.PID(), s3: stack.S3, client: stack.S3.Client(),
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

// forgetPeak has peakRSS count from now on (proc(5), clear_refs).
func (s *service) forgetPeak(b *testing.B) {
	b.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.pid), []byte("5"), 0o200); err != nil {
		b.Fatal(err)
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
