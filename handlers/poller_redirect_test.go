package handlers_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/storage"
)

// A poller that follows redirects gets its files from the object store itself,
// and the store never sees the token.
func TestRedirectFollowingPoller(t *testing.T) {
	t.Parallel()
	var below setup
	rec := record(t, &below, "")
	w := newServerWith(t, below, redirecting(true))
	ws, token := w.workspace("poll")
	p := rec.follow(w).pythonPoller(ws, token)
	uploaded := 0
	for _, m := range []string{"first", "second"} {
		uploaded += len(w.chat(ws, token, m, files(m)...))
		p.poll()
		copies := p.agent.copies(t, m)
		if len(copies) != 1 {
			t.Fatalf("message %s was handed on %d times", m, len(copies))
		}
		wantLocal(t, m, copies[0], files(m))
	}
	if p.failed != 0 {
		t.Errorf("%d fetches failed", p.failed)
	}
	if n := rec.presigned(); n != uploaded || w.deliveries()["redirect"] != uploaded {
		t.Errorf("%d presigned fetches, %v; want %d of each", n, w.deliveries(), uploaded)
	}
	for _, r := range rec.all() {
		if (r.host == publicS3) != strings.Contains(r.query, "X-Amz-Signature=") {
			t.Errorf("%s %s was sent to %s", r.method, r.path, r.host)
		}
	}
	rec.wantNoToken(t)
	w.wantAllAcked()
}

// In redirect mode a poller that does not follow is served as ever, unless the
// operator says that all are redirected.
func TestPollerThatDoesNotFollowIsSpared(t *testing.T) {
	t.Parallel()
	var below setup
	rec := record(t, &below, "")
	w := newServerWith(t, below, redirecting(false))
	ws, token := w.workspace("poll")
	p := w.pythonPoller(ws, token)
	w.chat(ws, token, "m", files("a")...)
	p.poll()
	wantLocal(t, "m", p.agent.copies(t, "m")[0], files("a"))
	if n := rec.presigned(); n != 0 || p.failed != 0 {
		t.Errorf("%d presigned fetches, %d failed", n, p.failed)
	}
	w.wantAllAcked()
}

// The client package asks for the bytes, so that no configuration of the service
// sends it elsewhere.
func TestClientFetchesThroughAServiceThatRedirects(t *testing.T) {
	t.Parallel()
	var below setup
	rec := record(t, &below, "")
	w := newServerWith(t, below, redirecting(true))
	ws, token := w.workspace("poll")
	f := w.mustUpload(ws, token, part{name: "a", content: "hello"})[0]
	id, err := storage.ParseFileID(f.URI[len(f.URI)-36:])
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{BaseURL: w.url, Workspace: ws, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var got wholeSink
	if _, err := c.Fetch(t.Context(), id, &got, client.FetchOptions{}); err != nil || got.String() != "hello" {
		t.Errorf("%q, %v", got.String(), err)
	}
	if n := rec.presigned(); n != 0 {
		t.Errorf("%d presigned requests", n)
	}
}

// wholeSink keeps what is fetched.
type wholeSink struct{ bytes.Buffer }

func (s *wholeSink) Restart() error {
	s.Reset()
	return nil
}
