package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/client/inbox"
	"github.com/molecule-ai/pendinguploads/internal/servertest"
	"github.com/molecule-ai/pendinguploads/storage"
)

// BenchmarkDelivery measures from the answer to an upload of 4 KiB to the file's
// appearance in the inbox folder, one file at a time, as the kernel reports it.
//
//	go test -run '^$' -bench Delivery/stream -benchtime 1000x ./test/bench
//	go test -run '^$' -bench Delivery/poller -benchtime 20x ./test/bench
func BenchmarkDelivery(b *testing.B) {
	for _, idle := range []int{0, 1000} {
		b.Run(fmt.Sprintf("stream/idle=%d", idle), func(b *testing.B) {
			s := start(b)
			s.idleStreams(b, idle)
			s.deliver(b, client.FollowConfig{}, 0)
		})
	}
	b.Run("poller", func(b *testing.B) {
		// Uploads fall at any moment between two polls.
		start(b).deliver(b, client.FollowConfig{Transport: client.TransportPoll}, client.DefaultInterval)
	})
}

func (s *service) newClient(b *testing.B) *client.Client {
	b.Helper()
	id, err := storage.ParseWorkspaceID(s.workspace)
	if err != nil {
		b.Fatal(err)
	}
	c, err := client.New(client.Config{BaseURL: s.url, Workspace: id, Token: s.token})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	return c
}

// idleStreams opens n streams on which nothing comes.
func (s *service) idleStreams(b *testing.B, n int) {
	b.Helper()
	transport := &http.Transport{}
	b.Cleanup(transport.CloseIdleConnections)
	for range n {
		r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, s.url+"/workspaces/"+s.idle+"/activity/stream", nil)
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+s.idleToken)
		response, err := transport.RoundTrip(r)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = response.Body.Close() })
		if response.StatusCode != http.StatusOK {
			b.Fatalf("stream: status %d", response.StatusCode)
		}
	}
}

// deliver uploads b.N files one after the other, each up to spread after the one
// before it has arrived, and reports how long they took.
func (s *service) deliver(b *testing.B, follow client.FollowConfig, spread time.Duration) {
	b.Helper()
	c := s.newClient(b)
	dir := filepath.Join(b.TempDir(), "inbox")
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	appeared := servertest.Watch(b, dir)
	box, err := inbox.New(inbox.Config{Client: c, Dir: dir, Follow: follow, MinFree: -1})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := box.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			b.Errorf("inbox: %v", err)
		}
	})
	content := bytes.Repeat([]byte("x"), 4<<10)
	var took []time.Duration
	for n := range b.N + 1 {
		if spread > 0 {
			<-time.After(rand.N(spread)) //nolint:gosec // any moment will do
		}
		name := fmt.Sprintf("file-%d.txt", n)
		_, err := c.Upload(b.Context(), []client.File{{Name: name, Size: int64(len(content)), Open: func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(content)), nil
		}}}, client.UploadOptions{})
		answered := time.Now()
		if err != nil {
			b.Fatal(err)
		}
		for seen := range appeared {
			if seen.Name == name && !seen.Written {
				if n > 0 { // the first one waits for the inbox to start
					took = append(took, max(seen.At.Sub(answered), 0))
				}
				break
			}
		}
	}
	b.StopTimer()
	stop()
	running.Wait()
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds()*1000, "p50-ms")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1000, "p99-ms")
	b.ReportMetric(0, "ns/op") // includes the upload
}
