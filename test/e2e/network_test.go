package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/client/inbox"
	"github.com/molecule-ai/pendinguploads/internal/servertest"
)

// badNetwork is a proxy whose connections go through ever new trouble.
type badNetwork struct {
	url   string
	proxy *toxiproxy.Proxy
	count map[string]int
}

func newBadNetwork(t *testing.T, upstream string) *badNetwork {
	t.Helper()
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	n := &badNetwork{proxy: toxiproxy.NewProxy(api, "service", "127.0.0.1:0", upstream), count: map[string]int{}}
	if err := n.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.proxy.Stop)
	n.url = "http://" + n.proxy.Listen
	return n
}

// trouble is one kind of it.
type trouble struct {
	kind       string
	attributes map[string]any
	lasts      time.Duration
}

func randomTrouble(r *rand.Rand) trouble {
	ms := func(from, to int) time.Duration { return time.Duration(from+r.IntN(to-from)) * time.Millisecond }
	switch n := r.IntN(20); {
	case n < 4:
		return trouble{"latency", map[string]any{"latency": r.IntN(80), "jitter": 20}, ms(50, 300)}
	case n < 13:
		return trouble{"limit_data", map[string]any{"bytes": 1 + r.IntN(512<<10)}, ms(50, 300)}
	case n < 16:
		return trouble{"reset_peer", map[string]any{"timeout": r.IntN(20)}, ms(20, 100)}
	case n < 19:
		return trouble{"bandwidth", map[string]any{"rate": 200 + r.IntN(2000)}, ms(100, 400)}
	default: // a black hole: bytes vanish, and no end is seen
		return trouble{"timeout", map[string]any{"timeout": 0}, ms(1500, 2500)}
	}
}

// shake makes trouble until ctx ends, with calm in between.
func (n *badNetwork) shake(ctx context.Context, r *rand.Rand) error {
	for i := 0; ctx.Err() == nil; i++ {
		tr := randomTrouble(r)
		stream := "downstream"
		if r.IntN(4) == 0 {
			stream = "upstream"
		}
		name := fmt.Sprintf("trouble-%d", i)
		description, err := json.Marshal(map[string]any{"name": name, "type": tr.kind, "stream": stream, "toxicity": 1, "attributes": tr.attributes})
		if err != nil {
			return err
		}
		if _, err := n.proxy.Toxics.AddToxicJson(strings.NewReader(string(description))); err != nil {
			return err
		}
		n.count[tr.kind]++
		pause(ctx, tr.lasts)
		if err := n.proxy.Toxics.RemoveToxic(context.WithoutCancel(ctx), name); err != nil {
			return err
		}
		pause(ctx, time.Duration(r.IntN(150))*time.Millisecond)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// sizes are those of the 200 files: small, middle, and in parts.
func sizes() []int {
	var list []int
	for n, count := range map[int]int{1: 10, 4 << 10: 90, 64 << 10: 60, 1 << 20: 35, 8 << 20: 5} {
		for range count {
			list = append(list, n)
		}
	}
	return list
}

func TestEveryFileArrivesThroughABadNetwork(t *testing.T) {
	t.Parallel()
	stack := servertest.NewStack(t)
	server := stack.Serve(t)
	id, token := stack.Workspace(t, "laptop")
	network := newBadNetwork(t, strings.TrimPrefix(server.URL, "http://"))
	random, sent := newRandom(), newSums()

	behind, err := client.New(client.Config{BaseURL: network.url, Workspace: id, Token: token, Silence: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(behind.Close)
	var mu sync.Mutex
	files, messages := map[string]int{}, map[string]int{}
	arrived := make(chan struct{}, 1000)
	dir := filepath.Join(t.TempDir(), "inbox")
	box, err := inbox.New(inbox.Config{
		Client: behind, Dir: dir, Logger: testLogger(t), MinFree: -1, Heartbeat: time.Second, DrainTimeout: time.Minute,
		OnFile: func(f inbox.File) {
			mu.Lock()
			files[f.Name]++
			mu.Unlock()
			if f.Err != nil {
				t.Errorf("%s was given up: %v", f.Name, f.Err)
			}
			arrived <- struct{}{}
		},
		Handler: func(_ context.Context, m inbox.Message) error {
			mu.Lock()
			messages[m.Text]++
			mu.Unlock()
			for _, f := range m.Files {
				if f.Path == "" {
					t.Errorf("message %s came before its file %s", m.Text, f.Name)
				}
			}
			arrived <- struct{}{}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(t.Context())
	shaking, calm := context.WithCancel(ctx)
	var running sync.WaitGroup
	var ran, shook error
	running.Go(func() { ran = box.Run(ctx) })
	running.Go(func() { shook = network.shake(shaking, newRandom()) })

	direct := server.Client(t, id, servertest.AdminToken) // what a workspace says itself is not for it
	all := sizes()
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	want := len(all)
	for n := 0; len(all) > 0; n++ {
		batch := make([]client.File, 0, 8)
		for _, size := range all[:min(len(all), 1+random.IntN(8))] {
			batch = append(batch, sent.file(random, size))
		}
		all = all[len(batch):]
		staged, err := direct.Upload(t.Context(), batch, client.UploadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := direct.Send(t.Context(), client.Message{Text: fmt.Sprint("message ", n), Files: staged}); err != nil {
			t.Fatal(err)
		}
		want++
	}
	messagesSent := want - len(sizes())
	for n := range want {
		select {
		case <-arrived:
		case <-time.After(time.Minute):
			calm()
			stop()
			running.Wait()
			t.Fatalf("nothing arrives any more after %d of %d (%d files, %d messages); run %v, network %v %v", n, want, len(files), len(messages), ran, shook, network.count)
		}
	}
	calm()
	stop()
	running.Wait()
	if !errors.Is(ran, context.Canceled) && ran != nil {
		t.Errorf("the inbox ended with %v", ran)
	}
	if shook != nil {
		t.Errorf("the network: %v", shook)
	}

	sent.missing(t, sent.check(t, dir), nil)
	for name, times := range files {
		if times != 1 {
			t.Errorf("%s was reported %d times", name, times)
		}
	}
	if len(messages) != messagesSent {
		t.Errorf("%d messages, want %d", len(messages), messagesSent)
	}
	for text, times := range messages {
		if times != 1 {
			t.Errorf("%s was handled %d times", text, times)
		}
	}
	if a, u := acked(t, stack.Database); a != len(sizes()) || u != 0 {
		t.Errorf("%d files acknowledged, %d not, want %d and 0", a, u, len(sizes()))
	}
	t.Logf("%d files and %d messages through %v; %d acks reached the service", len(sizes()), messagesSent, network.count,
		strings.Count(server.Log(), `msg="upload acknowledged"`))
}
