package inbox_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/client/inbox"
)

// A message that takes its time, or fails, does not keep back the files announced
// behind it; messages keep their order, and each waits for its own files.
func TestFilesArriveWhileAMessageIsHandled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, handle := range map[string]func(ctx context.Context, arrived chan struct{}) error{
		"which takes its time": func(ctx context.Context, arrived chan struct{}) error {
			select {
			case <-arrived:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
		"which fails until then": func(_ context.Context, arrived chan struct{}) error {
			select {
			case <-arrived:
				return nil
			default:
				return errors.New("the file is not here")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := w.user(t)
			dir := inboxDir(t)
			u.say("first")
			u.say("between")
			b := content(1000, 1)
			u.say("second", u.upload(blobFile{"behind", b})...)
			arrived := make(chan struct{})
			in, e := u.inbox(dir, once, func(c *inbox.Config) {
				told, handler := c.OnFile, c.Handler
				c.HandlerAttempts = -1
				c.OnFile = func(f inbox.File) {
					told(f)
					close(arrived)
				}
				c.Handler = func(ctx context.Context, m inbox.Message) error {
					if m.Text == "first" {
						if err := handle(ctx, arrived); err != nil {
							return err
						}
					}
					return handler(ctx, m)
				}
			})
			drain(t, in)
			if diff := cmp.Diff([]string{"first", "between", "second"}, e.texts()); diff != "" {
				t.Errorf("messages differ (-want +got):\n%s", diff)
			}
			if f := e.messages[2].Files; len(f) != 1 || f[0].Path == "" {
				t.Errorf("the last message came with %+v", f)
			}
			wantFolder(t, dir, listing{"behind": digest(b)})
		})
	}
}

// A message does not wait for files that are announced behind it.
func TestAMessageDoesNotWaitForLaterFiles(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	u.say("first")
	u.say("second", u.upload(blobFile{"behind", content(10, 1)})...)
	asked, delivered := make(chan struct{}), make(chan struct{})
	proxy := u.world.through(t, func(w http.ResponseWriter, r *http.Request, service http.Handler) {
		if isContent(r) {
			close(asked)
			<-delivered
		}
		service.ServeHTTP(w, r)
	})
	in, e := u.inbox(inboxDir(t), once, u.via(proxy), func(c *inbox.Config) {
		handler := c.Handler
		c.Handler = func(ctx context.Context, m inbox.Message) error {
			if m.Text == "first" {
				close(delivered)
			}
			return handler(ctx, m)
		}
	})
	in.OnStep(func(step string) {
		if step == inbox.StepDraining {
			<-asked // the file is on its way when the first message looks around
		}
	})
	drain(t, in)
	if diff := cmp.Diff([]string{"first", "second"}, e.texts()); diff != "" {
		t.Errorf("messages differ (-want +got):\n%s", diff)
	}
}

// The cursor moves in order: a row that was read ahead comes again after a stop.
func TestWhatWasReadAheadComesAgain(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	u.say("first")
	u.say("second", u.upload(blobFile{"behind", content(10, 1)})...)
	ctx, cancel := context.WithCancel(t.Context())
	in, e := u.inbox(dir, func(c *inbox.Config) {
		told := c.OnFile
		c.OnFile = func(f inbox.File) {
			told(f)
			cancel()
		}
		c.Handler = func(ctx context.Context, _ inbox.Message) error {
			<-ctx.Done()
			return ctx.Err()
		}
	})
	if err := in.Run(ctx); err != nil {
		t.Fatal(err)
	}
	again, f := u.inbox(dir, once)
	drain(t, again)
	if diff := cmp.Diff([]string{"first", "second"}, append(e.texts(), f.texts()...)); diff != "" {
		t.Errorf("messages differ (-want +got):\n%s", diff)
	}
	if n := len(e.files) + len(f.files); n != 1 || u.unacked() != 0 {
		t.Errorf("told of %d files, %d not acked", n, u.unacked())
	}
}

// More than is read ahead: everything comes, in order.
func TestMoreThanIsReadAhead(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	var want []string
	for i := range 300 {
		text := strings.Repeat("x", i+1)
		u.say(text)
		want = append(want, text)
	}
	var readToTheEnd atomic.Bool
	proxy := u.world.through(t, func(w http.ResponseWriter, r *http.Request, service http.Handler) {
		if r.URL.Query().Has("since_id") {
			readToTheEnd.Store(true)
		}
		service.ServeHTTP(w, r)
	})
	in, e := u.inbox(inboxDir(t), once, u.via(proxy), func(c *inbox.Config) {
		handler := c.Handler
		c.Handler = func(ctx context.Context, m inbox.Message) error {
			if m.Text == want[0] && readToTheEnd.Load() {
				t.Error("all rows were read before the first had its turn")
			}
			return handler(ctx, m)
		}
	})
	drain(t, in)
	if !slices.Equal(want, e.texts()) {
		t.Errorf("%d messages came, or in another order", len(e.messages))
	}
}

// A feed that ends ends the Run: at once where it was refused, and after what was
// read has been handled where the service went away.
func TestTheFeedEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const polls = 2 // the rows, and what comes next
	ending := func(t *testing.T, status int, body string) func(*client.Config) {
		var n atomic.Int32
		return w.through(t, func(w http.ResponseWriter, r *http.Request, service http.Handler) {
			if strings.HasSuffix(r.URL.Path, "/activity") && n.Add(1) > polls {
				http.Error(w, body, status)
				return
			}
			service.ServeHTTP(w, r)
		})
	}
	t.Run("unreachable", func(t *testing.T) {
		t.Parallel()
		u := w.user(t)
		u.say("one")
		u.say("two")
		in, e := u.inbox(inboxDir(t), once, u.via(ending(t, http.StatusBadGateway, "nobody there")))
		var feed *inbox.FeedError
		if err := in.Run(t.Context()); !errors.As(err, &feed) || !client.Temporary(err) {
			t.Errorf("Run ended with %v", err)
		}
		if diff := cmp.Diff([]string{"one", "two"}, e.texts()); diff != "" {
			t.Errorf("messages differ (-want +got):\n%s", diff)
		}
	})
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		u := w.user(t)
		u.say("one")
		in, _ := u.inbox(inboxDir(t), once, u.via(ending(t, http.StatusUnauthorized, `{"error":"invalid workspace auth token"}`)), func(c *inbox.Config) {
			c.Handler = func(ctx context.Context, _ inbox.Message) error {
				<-ctx.Done() // nothing else ends it
				return ctx.Err()
			}
		})
		if err := in.Run(t.Context()); !errors.Is(err, client.ErrUnauthorized) {
			t.Errorf("Run ended with %v", err)
		}
	})
}

// Without a handler, and with a service that takes no acks of the feed, the
// journal is saved and written anew all the same.
func TestTheJournalIsSavedWhereNothingElseWants(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	proxy := u.world.through(t, func(w http.ResponseWriter, r *http.Request, service http.Handler) {
		if isFeedAck(r) {
			http.NotFound(w, r)
			return
		}
		service.ServeHTTP(w, r)
	})
	for range 20 {
		u.say("passed over")
	}
	rewritten := make(chan struct{}, 100)
	in, _ := u.inbox(inboxDir(t), u.via(proxy), func(c *inbox.Config) { c.Handler = nil })
	in.CompactAfter(3)
	in.ReportEvery(10 * time.Millisecond)
	passed := 0
	in.OnStep(func(step string) {
		switch step {
		case "cursor journalled":
			passed++
		case inbox.StepCompactionRenamed:
			rewritten <- struct{}{}
		}
	})
	stop := start(t, in)
	<-rewritten // the first is the journal's beginning
	for range 2 {
		<-rewritten
		for range 20 {
			u.say("passed over")
		}
	}
	<-rewritten
	stop()
	if passed == 0 {
		t.Error("nothing was passed over")
	}
}
