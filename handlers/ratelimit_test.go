package handlers_test

import (
	"testing"

	"github.com/molecule-ai/pendinguploads/handlers"
)

func TestRateLimitPerBearerAndNotForContentOrAck(t *testing.T) {
	t.Parallel()
	w := newServer(t, func(cfg *handlers.Config) { cfg.RateLimit = 5 })
	a, tokenA := w.workspace("poll")
	b, tokenB := w.workspace("poll")
	f := w.mustUpload(a, tokenA, part{name: "a", content: "x"})[0] // the first of five
	feed := "/workspaces/" + a.String() + "/activity"
	for i, left := range []string{"3", "2", "1", "0"} {
		got := w.do("GET", feed, tokenA, nil)
		if got.status != 200 || got.header.Get("X-RateLimit-Limit") != "5" || got.header.Get("X-RateLimit-Remaining") != left {
			t.Errorf("call %d: %d %v", i, got.status, got.header)
		}
	}
	got := w.do("GET", feed, tokenA, nil)
	got.want(t, 429, "rate limit exceeded")
	if got.header.Get("Retry-After") == "" || got.header.Get("Retry-After") == "0" || got.header.Get("X-RateLimit-Remaining") != "0" || got.header.Get("X-RateLimit-Reset") == "" {
		t.Errorf("headers of the 429: %v", got.header)
	}
	for range 20 {
		if got := w.do("GET", f.path("content"), tokenA, nil); got.status != 200 {
			t.Fatalf("content is limited: %d", got.status)
		}
	}
	if got := w.do("POST", f.path("ack"), tokenA, nil); got.status != 200 {
		t.Errorf("ack is limited: %d", got.status)
	}
	if got := w.do("GET", "/workspaces/"+b.String()+"/activity", tokenB, nil); got.status != 200 {
		t.Errorf("another caller is limited too: %d", got.status)
	}
	if got := w.do("OPTIONS", feed, tokenA, nil, "Origin", "http://localhost:9"); got.status != 403 {
		t.Errorf("CORS does not come before the limit: %d", got.status)
	}
}
