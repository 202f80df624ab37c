package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/client"
)

// follow reads rows until it has n, and returns their ids.
func follow(t *testing.T, c *client.Client, cfg client.FollowConfig, n int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var ids []string
	for a, err := range c.Follow(ctx, cfg) {
		if err != nil {
			t.Fatalf("after %v: %v", ids, err)
		}
		if ids = append(ids, a.ID); len(ids) == n {
			break
		}
	}
	return ids
}

func ids(from, to int) []string {
	var list []string
	for n := from; n <= to; n++ {
		list = append(list, row(n).ID)
	}
	return list
}

// Whatever the service knows, every row comes once and in order: those that were
// there, and those that come while the client waits.
func TestFollowFallsBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		server    *feedServer
		transport client.Transport
		want      []string // kinds of requests it must have seen
		never     string
	}{
		"a service that streams":            {newFeedServer(true, true), client.TransportAuto, []string{"poll", "stream"}, "longpoll"},
		"a service that can only wait":      {newFeedServer(false, true), client.TransportAuto, []string{"stream", "longpoll"}, ""},
		"a service that knows neither":      {newFeedServer(false, false), client.TransportAuto, []string{"stream", "longpoll"}, ""},
		"long polls, because they are told": {newFeedServer(true, true), client.TransportLongPoll, []string{"longpoll"}, "stream"},
		"polls, because they are told":      {newFeedServer(true, true), client.TransportPoll, []string{"poll"}, "stream"},
	} {
		for from, cursor := range map[string]string{"from the window": "", "from a cursor": "r2"} {
			t.Run(name+"/"+from, func(t *testing.T) {
				t.Parallel()
				s := newFeedServer(c.server.streams, c.server.waits)
				s.add(8)
				cl := against(t, s.ServeHTTP)
				first := 1
				if cursor != "" {
					first = 3
				}
				seen := make(chan struct{})
				go func() {
					<-seen
					s.add(2)
				}()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var got []string
				for a, err := range cl.Follow(ctx, client.FollowConfig{After: cursor, Transport: c.transport, Interval: 20 * time.Millisecond}) {
					if err != nil {
						t.Fatal(err)
					}
					if got = append(got, a.ID); a.ID == "r8" {
						close(seen)
					}
					if a.ID == "r10" {
						break
					}
				}
				if diff := cmp.Diff(ids(first, 10), got); diff != "" {
					t.Error(diff)
				}
				asked := s.asked()
				for _, kind := range c.want {
					if kind == "poll" && cursor != "" && c.transport == client.TransportAuto {
						continue // nothing to ask back for
					}
					if !slices.Contains(asked, kind) {
						t.Errorf("asked by %v, want %s among them", asked, kind)
					}
				}
				if slices.Contains(asked, c.never) {
					t.Errorf("asked by %v, want no %s", asked, c.never)
				}
			})
		}
	}
}

func TestStreamIsResumedWhereItEnded(t *testing.T) {
	t.Parallel()
	s := newFeedServer(true, true)
	s.streamed = func(w http.ResponseWriter, r *http.Request) { s.stream(w, r, 2) } // ends after two rows
	s.add(1)
	cl := against(t, s.ServeHTTP)
	s.add(4)
	if diff := cmp.Diff(ids(2, 5), follow(t, cl, client.FollowConfig{After: "r1"}, 4)); diff != "" {
		t.Error(diff)
	}
	if n := len(s.asked()); n != 2 {
		t.Errorf("%d requests, want two streams of two rows", n)
	}
}

// An answer that passes for a stream by its status alone is a proxy's page.
func TestStrangePageIsNoStream(t *testing.T) {
	t.Parallel()
	s := newFeedServer(true, true)
	s.streamed = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>log in</html>")
	}
	s.add(2)
	cl := against(t, s.ServeHTTP)
	if diff := cmp.Diff(ids(2, 2), follow(t, cl, client.FollowConfig{After: "r1"}, 1)); diff != "" {
		t.Error(diff)
	}
	if !slices.Contains(s.asked(), "longpoll") {
		t.Errorf("asked by %v, want a long poll in the end", s.asked())
	}
}

func TestCursorThatIsGoneBeginsAgain(t *testing.T) {
	t.Parallel()
	for name, transport := range map[string]client.Transport{"stream": client.TransportAuto, "long poll": client.TransportLongPoll, "poll": client.TransportPoll} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFeedServer(true, true)
			s.add(5)
			s.gone["r2"] = true
			cl := against(t, s.ServeHTTP)
			resets := 0
			got := follow(t, cl, client.FollowConfig{After: "r2", Transport: transport, Reset: func() { resets++ }}, 5)
			if diff := cmp.Diff(ids(1, 5), got); diff != "" {
				t.Error(diff)
			}
			if resets != 1 {
				t.Errorf("%d resets, want 1", resets)
			}
		})
	}
}

func TestOnceEndsWhenNothingIsLeft(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 7} {
		for _, cursor := range []string{"", "r2"} {
			s := newFeedServer(true, true)
			s.add(n)
			cl := against(t, s.ServeHTTP)
			var got []string
			for a, err := range cl.Follow(t.Context(), client.FollowConfig{After: cursor, Once: true}) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, a.ID)
			}
			first := 1
			if cursor != "" {
				first = 3
			}
			if diff := cmp.Diff(ids(first, n), got); diff != "" {
				t.Errorf("%d rows after %q: %s", n, cursor, diff)
			}
		}
	}
}

func TestFollowEndsWithARefusal(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]error{http.StatusUnauthorized: client.ErrUnauthorized, http.StatusForbidden: client.ErrUnauthorized} {
		cl := against(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"error":"invalid workspace auth token"}`)
		})
		var got error
		for _, err := range cl.Follow(t.Context(), client.FollowConfig{After: "r1"}) {
			got = err
		}
		if !errors.Is(got, want) {
			t.Errorf("status %d: got %v", status, got)
		}
	}
}

func TestTroubleIsToldAndItsEnd(t *testing.T) {
	t.Parallel()
	s := newFeedServer(true, true)
	s.add(2)
	var mu sync.Mutex
	down := 2
	cl := against(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		down--
		refuse := down >= 0
		mu.Unlock()
		if refuse {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		s.ServeHTTP(w, r)
	})
	var told []string
	follow(t, cl, client.FollowConfig{After: "r1", Trouble: func(err error) {
		if err == nil {
			told = append(told, "fine")
		} else {
			told = append(told, "trouble")
		}
	}}, 1)
	if diff := cmp.Diff([]string{"trouble", "fine"}, told); diff != "" {
		t.Error(diff)
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := newFeedServer(true, true)
	s.add(1)
	cl := against(t, s.ServeHTTP)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range cl.Follow(ctx, client.FollowConfig{}) {
		if last = err; err == nil {
			cancel()
		}
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("ended with %v", last)
	}
}

// The oldest page of a window is found without holding the window, whatever the
// service knows, and with rows of one moment on both sides of a page's end.
func TestTheWindowIsReadFromItsOldestPage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		seed, sameMoment bool
		first            int // row
		most             int // requests
	}{
		"a service with before_ts":     {false, false, 1, 15},
		"one that does not know it":    {true, false, 8, 5}, // all that it shows
		"rows of one moment":           {false, true, 8, 5},
		"rows of one moment, and seed": {true, true, 8, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFeedServer(false, true)
			s.seed, s.sameMoment = c.seed, c.sameMoment
			s.add(10)
			cl := against(t, s.ServeHTTP)
			var got []string
			for a, err := range cl.Follow(t.Context(), client.FollowConfig{Once: true}) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, a.ID)
			}
			if diff := cmp.Diff(ids(c.first, 10), got); diff != "" {
				t.Error(diff)
			}
			if n := len(s.asked()); n > c.most {
				t.Errorf("%d requests, want %d at most", n, c.most)
			}
		})
	}
}

// A stream that does not get through must not keep the feed from being polled.
func TestStreamsThatDoNotGetThroughArePolled(t *testing.T) {
	t.Parallel()
	answer := func(status int, body string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	for name, streamed := range map[string]func(http.ResponseWriter, *http.Request){
		"400":                        answer(http.StatusBadRequest, `{"error":"bad"}`),
		"403 of a proxy":             answer(http.StatusForbidden, "<html>no</html>"),
		"404":                        answer(http.StatusNotFound, "404 page not found"),
		"502":                        answer(http.StatusBadGateway, ""),
		"504":                        answer(http.StatusGatewayTimeout, "<html>timeout</html>"),
		"cut off before any byte":    func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"kept back, headers and all": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"headers, and then nothing": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFeedServer(true, true)
			s.streamed = streamed
			s.add(2)
			cl := against(t, s.ServeHTTP, func(cfg *client.Config) { cfg.Silence = 100 * time.Millisecond })
			if diff := cmp.Diff(ids(2, 2), follow(t, cl, client.FollowConfig{After: "r1"}, 1)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What a proxy says of cursors, tokens and files means nothing.
func TestForeignRefusalsAreNotBelieved(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusFound, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusProxyAuthRequired, http.StatusGone} {
		s := newFeedServer(true, true)
		s.add(2)
		var mu sync.Mutex
		refusals := 3
		cl := against(t, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			refusals--
			refuse := refusals >= 0
			mu.Unlock()
			if refuse {
				w.WriteHeader(status)
				_, _ = io.WriteString(w, "<html>default backend</html>")
				return
			}
			s.ServeHTTP(w, r)
		})
		got := follow(t, cl, client.FollowConfig{After: "r1", Reset: func() { t.Errorf("status %d: the cursor was given up", status) }}, 1)
		if diff := cmp.Diff(ids(2, 2), got); diff != "" {
			t.Errorf("status %d: %s", status, diff)
		}
	}
}

func TestOnceHasPatience(t *testing.T) {
	t.Parallel()
	cl := against(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
		func(cfg *client.Config) { cfg.Patience = 300 * time.Millisecond })
	var last error
	for _, err := range cl.Follow(t.Context(), client.FollowConfig{After: "r1", Once: true}) {
		last = err
	}
	if !client.Temporary(last) {
		t.Errorf("ended with %v, want the service's last answer", last)
	}
}
