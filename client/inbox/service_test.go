package inbox_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/client/inbox"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
)

// via has the inbox's client go through a proxy.
func (u *user) via(proxy func(*client.Config)) func(*inbox.Config) {
	return func(c *inbox.Config) { c.Client = u.connect(u.token, proxy) }
}

func TestRefusedContentIsFetchedAgain(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	good := content(100_000, 1)
	u.upload(blobFile{"a.bin", good})
	var fetches, refused atomic.Int32
	proxy := u.world.through(t, func(w http.ResponseWriter, r *http.Request, service http.Handler) {
		switch {
		case isContent(r) && fetches.Add(1) == 1:
			service.ServeHTTP(&flipping{ResponseWriter: w}, r)
		case isAck(r):
			service.ServeHTTP(&counting{w, http.StatusConflict, &refused}, r)
		default:
			service.ServeHTTP(w, r)
		}
	})
	in, e := u.inbox(dir, once, u.via(proxy))
	drain(t, in)
	wantFolder(t, dir, listing{"a.bin": digest(good)})
	if refused.Load() != 1 || fetches.Load() != 2 || u.unacked() != 0 {
		t.Errorf("%d acks were refused, %d fetches, %d not acked", refused.Load(), fetches.Load(), u.unacked())
	}
	if files, _, _ := e.snapshot(); len(files) != 1 || files[0].Err != nil {
		t.Errorf("told of %+v", files)
	}
}

func TestContentThatIsAlwaysRefusedIsGivenUp(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	u.upload(blobFile{"a.bin", content(100, 1)})
	proxy := u.world.through(t, func(w http.ResponseWriter, r *http.Request, service http.Handler) {
		if isContent(r) {
			w = &flipping{ResponseWriter: w}
		}
		service.ServeHTTP(w, r)
	})
	in, e := u.inbox(dir, once, u.via(proxy))
	drain(t, in)
	wantFolder(t, dir, listing{})
	if files, _, _ := e.snapshot(); len(files) != 1 || !errors.Is(files[0].Err, client.ErrContentMismatch) {
		t.Errorf("told of %+v", files)
	}
	if u.unacked() != 1 {
		t.Error("a file that is not here was acked")
	}
}

// counting counts answers of one status.

type counting struct {
	http.ResponseWriter
	status int
	n      *atomic.Int32
}

func (c *counting) WriteHeader(status int) {
	if status == c.status {
		c.n.Add(1)
	}
	c.ResponseWriter.WriteHeader(status)
}

func (c *counting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func TestAMissingFileIsGivenUp(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	kept := content(10, 2)
	files := u.upload(blobFile{"gone.bin", content(10, 1)}, blobFile{"kept.bin", kept})
	u.exec(`UPDATE pending_uploads SET expires_at = now() - interval '1 minute' WHERE workspace_id = $1 AND filename = 'gone.bin'`, u.id.String())
	u.say("both", files...)
	in, e := u.inbox(dir, once)
	drain(t, in)
	wantFolder(t, dir, listing{"kept.bin": digest(kept)})
	told, messages, _ := e.snapshot()
	i := slices.IndexFunc(told, func(f inbox.File) bool { return f.Name == "gone.bin" })
	if len(told) != 2 || i < 0 || !errors.Is(told[i].Err, client.ErrNotFound) || told[i].Path != "" {
		t.Errorf("told of %+v", told)
	}
	if len(messages) != 1 || len(messages[0].Files) != 2 || messages[0].Files[0].Path != "" || messages[0].Files[1].Path == "" {
		t.Fatalf("messages %+v", messages)
	}
	if !strings.Contains(string(messages[0].Activity.RequestBody), files[0].URI) {
		t.Error("the URI of a file that is not here was changed")
	}
}

func TestARevokedTokenEndsTheRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	t.Run("at the feed", func(t *testing.T) {
		t.Parallel()
		u := w.user(t)
		in, e := u.inbox(inboxDir(t), func(c *inbox.Config) {
			c.Follow = client.FollowConfig{Transport: client.TransportPoll, Interval: 20 * time.Millisecond}
		})
		ended := make(chan error, 1)
		go func() { ended <- in.Run(t.Context()) }()
		u.say("first")
		e.until("it runs", func() bool { return len(e.messages) == 1 })
		u.exec(`UPDATE workspace_auth_tokens SET revoked_at = now() WHERE workspace_id = $1`, u.id.String())
		if err := <-ended; !errors.Is(err, client.ErrUnauthorized) {
			t.Errorf("Run ended with %v", err)
		}
	})
	t.Run("at a file", func(t *testing.T) {
		t.Parallel()
		u := w.user(t)
		u.upload(blobFile{"a", content(10, 1)})
		proxy := w.through(t, func(w http.ResponseWriter, r *http.Request, service http.Handler) {
			if isContent(r) {
				r.Header.Set("Authorization", "Bearer wrong")
			}
			service.ServeHTTP(w, r)
		})
		dir := inboxDir(t)
		in, _ := u.inbox(dir, u.via(proxy))
		if err := in.Run(t.Context()); !errors.Is(err, client.ErrUnauthorized) {
			t.Errorf("Run ended with %v", err)
		}
		wantFolder(t, dir, listing{})
	})
}

// A service that knows neither streams nor long polls.
func TestPlainPollService(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	proxy := u.world.through(t, func(w http.ResponseWriter, r *http.Request, service http.Handler) {
		if isStream(r) || isFeedAck(r) {
			http.NotFound(w, r)
			return
		}
		q := r.URL.Query()
		q.Del("wait")
		r.URL.RawQuery = q.Encode()
		service.ServeHTTP(w, r)
	})
	in, e := u.inbox(dir, u.via(proxy), func(c *inbox.Config) { c.Follow.Interval = 20 * time.Millisecond })
	in.ReportEvery(10 * time.Millisecond)
	stop := start(t, in)
	for i, text := range []string{"one", "two"} {
		b := content(1000, uint64(i))
		u.say(text, u.upload(blobFile{text, b})...)
		e.until("the message came", func() bool { return slices.Contains(e.texts(), text) })
		if got := visible(t, dir)[text]; got != digest(b) {
			t.Errorf("%s is %s", text, got)
		}
	}
	stop()
}

func TestFilesAreFetchedFourAtATime(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	var files []blobFile
	for i := range 12 {
		files = append(files, blobFile{string(rune('a' + i)), content(100, uint64(i))})
	}
	var mu sync.Mutex
	waiting, all := 0, make(chan struct{})
	var over atomic.Bool
	proxy := u.world.through(t, func(w http.ResponseWriter, r *http.Request, service http.Handler) {
		if isContent(r) {
			// Nobody goes on until four are here.
			mu.Lock()
			waiting++
			mine := all
			switch {
			case waiting == 4:
				close(all)
				waiting, all = 0, make(chan struct{})
			case waiting > 4:
				over.Store(true)
			}
			mu.Unlock()
			<-mine
		}
		service.ServeHTTP(w, r)
	})
	u.upload(files...)
	dir := inboxDir(t)
	in, _ := u.inbox(dir, once, u.via(proxy))
	drain(t, in)
	if n := len(visible(t, dir)); n != 12 || over.Load() {
		t.Errorf("%d files came, more than four at a time: %v", n, over.Load())
	}
}

// A failed fetch is retried until it succeeds; meanwhile the message is delivered
// with what is known, and the feed is not acked past the file.
func TestAFailedFetchIsRetried(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	good, late := content(10, 1), content(20, 2)
	files := u.upload(blobFile{"good", good}, blobFile{"late", late})
	u.say("both", files...)
	var healed atomic.Bool
	var mu sync.Mutex
	var acks []int64
	proxy := u.world.through(t, func(w http.ResponseWriter, r *http.Request, service http.Handler) {
		switch {
		case isContent(r) && !healed.Load() && strings.Contains(files[1].URI, strings.Split(r.URL.Path, "/")[4]):
			http.Error(w, `{"error":"storage error"}`, http.StatusInternalServerError)
			return
		case isFeedAck(r):
			body, _ := io.ReadAll(r.Body)
			var ack wire.AckSeq
			_ = json.Unmarshal(body, &ack)
			mu.Lock()
			acks = append(acks, *ack.AckedSeq)
			mu.Unlock()
			r.Body = io.NopCloser(strings.NewReader(string(body)))
		}
		service.ServeHTTP(w, r)
	})
	in, e := u.inbox(dir, u.via(proxy))
	in.ReportEvery(10 * time.Millisecond)
	stop := start(t, in)
	e.until("the message came", func() bool { return len(e.messages) == 1 })
	e.until("the trouble is told", func() bool { return len(e.troubles) == 1 })
	m := e.messages[0]
	if m.Files[0].Path == "" || m.Files[1].Path != "" || m.Files[1].Name != "late" || !strings.Contains(string(m.Activity.RequestBody), files[1].URI) {
		t.Errorf("the message came with %+v: %s", m.Files, m.Activity.RequestBody)
	}
	healed.Store(true)
	e.until("the file came", func() bool { return len(e.files) == 2 })
	e.until("all is well", func() bool { return e.troubles[len(e.troubles)-1] == nil })
	u.say("after")
	e.until("the next message came", func() bool { return len(e.messages) == 2 })
	stop()
	wantFolder(t, dir, listing{"good": digest(good), "late": digest(late)})
	if got := u.count(`SELECT last_acked_seq FROM inbox_delivery_state WHERE workspace_id = $1`, u.id.String()); got != 4 {
		t.Errorf("the feed is acked up to %d, want 4", got)
	}
	// The failed file's row was number 2.
	if len(acks) < 2 || acks[0] != 1 || !slices.IsSorted(acks) {
		t.Errorf("the feed was acked up to %v, want 1 first", acks)
	}
}

func TestOnceSaysWhatItLeaves(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	b := content(10, 1)
	u.upload(blobFile{"a", b})
	proxy := u.world.through(t, func(w http.ResponseWriter, r *http.Request, service http.Handler) {
		if isContent(r) {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		service.ServeHTTP(w, r)
	})
	in, _ := u.inbox(dir, once, u.via(proxy))
	if err := in.Run(t.Context()); !errors.Is(err, inbox.ErrUnfinished) || !strings.Contains(err.Error(), "502") {
		t.Errorf("Run ended with %v", err)
	}
	next, _ := u.inbox(dir, once)
	drain(t, next)
	wantFolder(t, dir, listing{"a": digest(b)})
}

func TestLargeAndOldFilesAreGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	t.Run("large", func(t *testing.T) {
		t.Parallel()
		u := w.user(t)
		dir := inboxDir(t)
		small := content(100, 2)
		u.upload(blobFile{"large", content(101, 1)}, blobFile{"small", small})
		in, e := u.inbox(dir, once, func(c *inbox.Config) { c.MaxFileBytes = 100 })
		drain(t, in)
		wantFolder(t, dir, listing{"small": digest(small)})
		files, _, _ := e.snapshot()
		if i := slices.IndexFunc(files, func(f inbox.File) bool { return f.Name == "large" }); i < 0 || !errors.Is(files[i].Err, client.ErrTooLarge) {
			t.Errorf("told of %+v", files)
		}
		if u.unacked() != 1 {
			t.Error("a file that is not here was acked")
		}
	})
	t.Run("old", func(t *testing.T) {
		t.Parallel()
		u := w.user(t)
		u.upload(blobFile{"a", content(10, 1)})
		proxy := w.through(t, func(w http.ResponseWriter, r *http.Request, service http.Handler) {
			if isContent(r) {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			service.ServeHTTP(w, r)
		})
		dir := inboxDir(t)
		in, e := u.inbox(dir, u.via(proxy))
		in.ExpireAfter(100 * time.Millisecond)
		stop := start(t, in)
		e.until("it is given up", func() bool { return len(e.files) == 1 })
		stop()
		if !errors.Is(e.files[0].Err, inbox.ErrExpired) {
			t.Errorf("given up with %v", e.files[0].Err)
		}
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	})
}

// Content that is damaged at its source is not fetched for ever.
func TestDamagedContentIsGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, damage := range map[string]struct {
		want  error
		proxy func(w http.ResponseWriter, r *http.Request, service http.Handler)
	}{
		"another size": {inbox.ErrWrongSize, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			_, _ = io.WriteString(w, "short")
		}},
		"another digest": {client.ErrCorrupt, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("ETag", `"`+digest(nil)+`"`)
			_, _ = w.Write(content(100, 2))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := w.user(t)
			dir := inboxDir(t)
			u.upload(blobFile{"a", content(100, 1)})
			proxy := w.through(t, func(w http.ResponseWriter, r *http.Request, service http.Handler) {
				if isContent(r) {
					damage.proxy(w, r, service)
					return
				}
				service.ServeHTTP(w, r)
			})
			// Two runs that end are two of five times.
			for range 2 {
				in, e := u.inbox(dir, once, u.via(proxy))
				if err := in.Run(t.Context()); !errors.Is(err, inbox.ErrUnfinished) || !errors.Is(err, damage.want) || len(e.files) != 0 {
					t.Fatalf("Run ended with %v, told of %+v", err, e.files)
				}
			}
			in, e := u.inbox(dir, u.via(proxy))
			in.DamagedPause(time.Millisecond)
			stop := start(t, in)
			e.until("it is given up", func() bool { return len(e.files) == 1 })
			stop()
			if err := e.files[0].Err; !errors.Is(err, damage.want) || !strings.Contains(err.Error(), "after 5 times") {
				t.Errorf("given up with %v", err)
			}
			wantFolder(t, dir, listing{})
			if u.unacked() != 1 {
				t.Error("the file was acked")
			}
		})
	}
}

func TestContentOfAnotherSizeIsNotPlaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, size := range map[string]string{"more": "99", "less": "101"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := w.user(t)
			u.upload(blobFile{"a", content(100, 1)})
			u.exec(`UPDATE activity_logs SET request_body = jsonb_set(request_body::jsonb, '{size}', $2::jsonb) WHERE workspace_id = $1`, u.id.String(), size)
			dir := inboxDir(t)
			in, _ := u.inbox(dir, once)
			if err := in.Run(t.Context()); !errors.Is(err, inbox.ErrUnfinished) || !errors.Is(err, inbox.ErrWrongSize) {
				t.Errorf("Run ended with %v", err)
			}
			wantFolder(t, dir, listing{})
			if u.unacked() != 1 {
				t.Error("the file was acked")
			}
		})
	}
}
