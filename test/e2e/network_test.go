package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
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
	dealt chan struct{} // closed when every kind of trouble has been there
	count map[string]int
}

func newBadNetwork(t *testing.T, upstream string) *badNetwork {
	t.Helper()
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	n := &badNetwork{
		proxy: toxiproxy.NewProxy(api, "service", "127.0.0.1:0", upstream),
		dealt: make(chan struct{}), count: map[string]int{},
	}
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

// troubles are twenty of all kinds, in any order.
func troubles(r *rand.Rand) []trouble {
	ms := func(from, to int) time.Duration { return time.Duration(from+r.IntN(to-from)) * time.Millisecond }
	var all []trouble
	add := func(n int, kind string, lasts func() time.Duration, attributes func() map[string]any) {
		for range n {
			all = append(all, trouble{kind, attributes(), lasts()})
		}
	}
	a := func(key string, value int) map[string]any { return map[string]any{key: value} }
	add(4, "latency", func() time.Duration { return ms(50, 300) }, func() map[string]any {
		return map[string]any{"latency": r.IntN(80), "jitter": 20}
	})
	// Connections end after so many bytes: in the middle of short answers, and of content.
	add(5, "limit_data", func() time.Duration { return ms(50, 300) }, func() map[string]any { return a("bytes", 1+r.IntN(4<<10)) })
	add(4, "limit_data", func() time.Duration { return ms(50, 300) }, func() map[string]any { return a("bytes", 1+r.IntN(512<<10)) })
	add(3, "reset_peer", func() time.Duration { return ms(20, 100) }, func() map[string]any { return a("timeout", r.IntN(20)) })
	add(3, "bandwidth", func() time.Duration { return ms(100, 400) }, func() map[string]any { return a("rate", 200+r.IntN(2000)) })
	// A black hole: bytes vanish, and no end is seen.
	add(1, "timeout", func() time.Duration { return ms(1500, 2500) }, func() map[string]any { return a("timeout", 0) })
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

func (n *badNetwork) add(name, stream string, tr trouble) error {
	description, err := json.Marshal(map[string]any{"name": name, "type": tr.kind, "stream": stream, "toxicity": 1, "attributes": tr.attributes})
	if err != nil {
		return err
	}
	_, err = n.proxy.Toxics.AddToxicJson(bytes.NewReader(description))
	return err
}

// slow is a way to the server on which a file takes a while.
func slow(t *testing.T, server string) (url string) {
	t.Helper()
	n := newBadNetwork(t, strings.TrimPrefix(server, "http://"))
	for _, tr := range []trouble{
		{kind: "latency", attributes: map[string]any{"latency": 3}},
		{kind: "bandwidth", attributes: map[string]any{"rate": 16 << 10}}, // KB/s
	} {
		if err := n.add(tr.kind, "downstream", tr); err != nil {
			t.Fatal(err)
		}
	}
	return n.url
}

// shake makes trouble until ctx ends, with calm in between.
func (n *badNetwork) shake(ctx context.Context, r *rand.Rand) error {
	for i, left := 0, troubles(r); ctx.Err() == nil; i++ {
		if len(left) == 0 {
			if n.count["timeout"] == 1 {
				close(n.dealt)
			}
			left = troubles(r)
		}
		tr := left[0]
		left = left[1:]
		stream := "downstream"
		if r.IntN(4) == 0 {
			stream = "upstream"
		}
		name := fmt.Sprintf("trouble-%d", i)
		if err := n.add(name, stream, tr); err != nil {
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
	db := openRows(t, stack.Database)
	network := newBadNetwork(t, strings.TrimPrefix(server.URL, "http://"))
	random, sent := newRandom(), newSums()
	folder := sent.watch(t, filepath.Join(t.TempDir(), "inbox"))

	counted := newAcks()
	behind, err := client.New(client.Config{
		BaseURL: network.url, Workspace: id, Token: token, Silence: time.Second, HTTP: &http.Client{Transport: counted},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(behind.Close)
	var mu sync.Mutex
	files, messages := map[string]int{}, map[string]int{}
	arrived := make(chan struct{}, 1000)
	box, err := inbox.New(inbox.Config{
		Client: behind, Dir: folder.dir, Logger: testLogger(t), MinFree: -1, Heartbeat: time.Second, DrainTimeout: time.Minute,
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
	defer running.Wait()
	defer stop()
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
		if all = all[len(batch):]; len(all) == 0 {
			select {
			case <-network.dealt:
			case <-time.After(time.Minute):
				t.Fatal("the network does not make the trouble it should")
			}
		}
		staged, err := direct.Upload(t.Context(), batch, client.UploadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := direct.Send(t.Context(), client.Message{Text: fmt.Sprint("message ", n), Files: staged}); err != nil {
			t.Fatal(err)
		}
		want++
		pause(t.Context(), time.Duration(random.IntN(400))*time.Millisecond)
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

	there := folder.end(t)
	sent.missing(t, there, nil)
	db.ackedOnce(t, there)
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
	acks, reached := counted.check(t, len(sizes()), server.Log())
	t.Logf("%d files and %d messages through %v; %d acks sent, %d answered by the service, %d of the answers arrived",
		len(there), messagesSent, network.count, acks, reached, len(sizes()))
}
