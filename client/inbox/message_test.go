package inbox_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/client/inbox"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
)

// A message waits for the files announced before it.
func TestAMessageWaitsForItsFiles(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	var files []blobFile
	for i := range 9 {
		files = append(files, blobFile{string(rune('a' + i)), content(100, uint64(i))})
	}
	draining := make(chan struct{})
	var running, most atomic.Int32
	proxy := u.world.through(t, func(w http.ResponseWriter, r *http.Request, service http.Handler) {
		if isContent(r) {
			n := running.Add(1)
			for before := most.Load(); n > before && !most.CompareAndSwap(before, n); before = most.Load() {
			}
			<-draining // the message is about to be delivered
			defer running.Add(-1)
		}
		service.ServeHTTP(w, r)
	})
	u.say("all", u.upload(files...)...)
	in, e := u.inbox(inboxDir(t), once, u.via(proxy))
	var open sync.Once
	in.OnStep(func(step string) {
		if step == inbox.StepDraining {
			open.Do(func() { close(draining) })
		}
	})
	drain(t, in)
	_, messages, _ := e.snapshot()
	if len(messages) != 1 || len(messages[0].Files) != len(files) {
		t.Fatalf("messages %+v", messages)
	}
	for _, f := range messages[0].Files {
		if f.Path == "" {
			t.Errorf("the message came before %s", f.Name)
		}
	}
	if n := most.Load(); n > inbox.DefaultFetchers {
		t.Errorf("%d fetches at a time", n)
	}
}

// A feed that begins again brings nothing twice.
func TestACursorThatIsGone(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	b := content(10, 1)
	u.say("one", u.upload(blobFile{"a", b})...)
	var fetches atomic.Int32
	proxy := u.world.through(t, func(w http.ResponseWriter, r *http.Request, service http.Handler) {
		if isContent(r) {
			fetches.Add(1)
		}
		service.ServeHTTP(w, r)
	})
	in, e := u.inbox(dir, once, u.via(proxy))
	drain(t, in)
	u.say("two")
	u.exec(`DELETE FROM activity_logs WHERE workspace_id = $1 AND request_body::text LIKE '%"two"%'`, u.id.String())
	u.say("three")
	drain(t, in)
	u.exec(`DELETE FROM activity_logs WHERE workspace_id = $1 AND request_body::text LIKE '%"three"%'`, u.id.String())
	u.say("four")
	resets := 0
	again, f := u.inbox(dir, once, u.via(proxy), func(c *inbox.Config) { c.Follow.Reset = func() { resets++ } })
	drain(t, again)
	if diff := cmp.Diff([]string{"one", "three", "four"}, append(e.texts(), f.texts()...)); diff != "" {
		t.Errorf("messages differ (-want +got):\n%s", diff)
	}
	if resets != 1 || fetches.Load() != 1 {
		t.Errorf("%d resets, %d fetches", resets, fetches.Load())
	}
	wantFolder(t, dir, listing{"a": digest(b)})
}

func TestRowsOfItsOwnAreSkipped(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	own := u.connect(u.token)
	if err := own.Notify(t.Context(), wire.Notify{Message: "mine"}); err != nil {
		t.Fatal(err)
	}
	if err := own.Send(t.Context(), client.Message{Text: "echo"}); err != nil {
		t.Fatal(err)
	}
	u.say("for me")
	in, e := u.inbox(inboxDir(t), once)
	drain(t, in)
	if diff := cmp.Diff([]string{"for me"}, e.texts()); diff != "" {
		t.Errorf("messages differ (-want +got):\n%s", diff)
	}
}

func TestAFailingHandler(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	broken := errors.New("the agent is not well")
	t.Run("comes again", func(t *testing.T) {
		t.Parallel()
		u := w.user(t)
		u.say("one")
		u.say("two")
		var calls []string
		in, e := u.inbox(inboxDir(t), once, func(c *inbox.Config) {
			c.Handler = func(_ context.Context, m inbox.Message) error {
				calls = append(calls, m.Text)
				if len(calls) < 3 {
					return broken
				}
				return nil
			}
		})
		drain(t, in)
		if diff := cmp.Diff([]string{"one", "one", "one", "two"}, calls); diff != "" {
			t.Error(diff)
		}
		if _, _, troubles := e.snapshot(); len(troubles) != 2 || !errors.Is(troubles[0], broken) || troubles[1] != nil {
			t.Errorf("troubles %v, want one and its end", troubles)
		}
	})
	t.Run("is skipped", func(t *testing.T) {
		t.Parallel()
		u := w.user(t)
		u.say("one")
		u.say("two")
		dir := inboxDir(t)
		var calls []string
		in, e := u.inbox(dir, once, func(c *inbox.Config) {
			c.HandlerAttempts = 2
			c.Handler = func(_ context.Context, m inbox.Message) error {
				calls = append(calls, m.Text)
				if m.Text == "one" {
					return broken
				}
				return nil
			}
		})
		drain(t, in)
		drain(t, in)
		if diff := cmp.Diff([]string{"one", "one", "two"}, calls); diff != "" {
			t.Error(diff)
		}
		_, _, troubles := e.snapshot()
		if len(troubles) != 3 || !strings.Contains(troubles[1].Error(), "skipped") || troubles[2] != nil {
			t.Errorf("troubles %v", troubles)
		}
	})
	t.Run("of a stopped inbox comes again", func(t *testing.T) {
		t.Parallel()
		u := w.user(t)
		u.say("one")
		dir := inboxDir(t)
		ctx, cancel := context.WithCancel(t.Context())
		in, _ := u.inbox(dir, func(c *inbox.Config) {
			c.Handler = func(ctx context.Context, _ inbox.Message) error {
				cancel()
				<-ctx.Done()
				return ctx.Err()
			}
		})
		if err := in.Run(ctx); err != nil {
			t.Error(err)
		}
		next, e := u.inbox(dir, once)
		drain(t, next)
		if diff := cmp.Diff([]string{"one"}, e.texts()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAMessageDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	b := content(100, 1)
	delivered := make(chan struct{})
	proxy := u.world.through(t, func(w http.ResponseWriter, r *http.Request, service http.Handler) {
		if isContent(r) {
			<-delivered
		}
		service.ServeHTTP(w, r)
	})
	u.say("look", u.upload(blobFile{"a", b})...)
	in, e := u.inbox(dir, once, u.via(proxy), func(c *inbox.Config) {
		c.DrainTimeout = time.Millisecond
		handler := c.Handler
		c.Handler = func(ctx context.Context, m inbox.Message) error {
			close(delivered)
			return handler(ctx, m)
		}
	})
	drain(t, in)
	if len(e.messages) != 1 || len(e.messages[0].Files) != 1 || e.messages[0].Files[0].Path != "" {
		t.Errorf("messages %+v", e.messages)
	}
	wantFolder(t, dir, listing{"a": digest(b)})
}

// What is no announcement is said, and passed over.
func TestRowsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	for range 3 {
		u.upload(blobFile{"a", content(100, 1)})
	}
	for seq, body := range map[int]string{1: `{}`, 2: `{"file_id":"x","size":1}`, 3: `{"file_id":"00000000-0000-4000-8000-000000000001","size":9e18}`} {
		u.exec(`UPDATE activity_logs SET request_body = $2 WHERE workspace_id = $1 AND seq = $3`, u.id.String(), body, seq)
	}
	u.say("after")
	in, e := u.inbox(inboxDir(t), once)
	drain(t, in)
	if diff := cmp.Diff([]string{"after"}, e.texts()); diff != "" || len(e.troubles) != 3 || len(e.files) != 0 {
		t.Errorf("troubles %v, files %v %s", e.troubles, e.files, diff)
	}
}
