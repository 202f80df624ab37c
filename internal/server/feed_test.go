package server_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/server"
)

// FEED_NOTIFY decides whether there is a connection that listens.
func TestFeedNotify(t *testing.T) {
	t.Parallel()
	for notify, want := range map[string]string{"on": "pendinguploads_feed_listening 1\n", "off": "pendinguploads_feed_listening 0\n"} {
		t.Run(notify, func(t *testing.T) {
			t.Parallel()
			database := devstack.Database(t)
			var cfg server.Config
			parser, err := kong.New(&cfg)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parser.Parse([]string{
				"--database-url", database, "--listen-addr", "127.0.0.1:0", "--feed-notify", notify, "--s3-bucket", "",
			}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ready, done := make(chan net.Addr, 1), make(chan error, 1)
			go func() {
				done <- server.Run(ctx, cfg, server.Options{Ready: func(addr net.Addr) { ready <- addr }, Logger: slog.New(slog.DiscardHandler)})
			}()
			t.Cleanup(func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
			var url string
			select {
			case addr := <-ready:
				url = "http://" + addr.String() + "/metrics"
			case <-time.After(20 * time.Second):
				t.Fatal("the server did not start within 20 s")
			}
			deadline := time.Now().Add(20 * time.Second)
			for !strings.Contains(get(t, url), want) {
				if time.Now().After(deadline) {
					t.Fatalf("no %q within 20 s", want)
				}
			}
		})
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
