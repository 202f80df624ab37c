package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/storage"
)

func fetchByURL(cfg *client.Config) { cfg.FetchBy = client.FetchByURL }

// asks notes how the service was asked for content.
type asks struct {
	mu   sync.Mutex
	seen []string
}

func (a *asks) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/content") {
			a.mu.Lock()
			a.seen = append(a.seen, r.URL.Query().Get("delivery"))
			a.mu.Unlock()
		}
		next.ServeHTTP(w, r)
	})
}

// taken returns what was seen since the last call.
func (a *asks) taken() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	seen := strings.Join(a.seen, " ")
	a.seen = nil
	return seen
}

// The bytes come from the store, which never sees the token, and what one way has
// begun the other goes on with.
func TestFetchByURLTheWholeJob(t *testing.T) {
	t.Parallel()
	for name, s3 := range map[string]func(testing.TB) devstack.S3{"minio": devstack.MinIOUser, "versitygw": devstack.VersityGW} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stack, store := directStack(t, s3)
			service := stack.Serve(t)
			id, token := stack.Workspace(t, "laptop")
			var asked asks
			front := newFront(t, service.URL, asked.wrap)
			throughFront := func(cfg *client.Config) { cfg.BaseURL = front.URL }
			c := service.Client(t, id, token, fetchByURL, throughFront)
			want := content(7 << 20)
			staged, err := c.Upload(t.Context(), []client.File{file("ü 中文.txt", "text/plain", want)}, client.UploadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			f := fileOf(t, staged[0].URI)
			var sink buffer
			got, err := c.Fetch(t.Context(), f, &sink, client.FetchOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(sink.Bytes(), want) || got.SHA256 != sha256.Sum256(want) || got.Filename != staged[0].Name || got.MIMEType != "text/plain" {
				t.Errorf("%d bytes of %+v", sink.Len(), got)
			}
			for way, other := range map[string]*client.Client{"url": c, "proxy": service.Client(t, id, token, throughFront)} {
				_ = asked.taken()
				rest := buffer{Buffer: *bytes.NewBuffer(slices.Clone(want[:5<<20]))}
				sum := sha256.New()
				_, _ = sum.Write(rest.Bytes())
				got, err := other.Fetch(t.Context(), f, &rest, client.FetchOptions{From: client.Partial{Offset: 5 << 20, ETag: tag(want), Sum: sum}})
				if err != nil || !bytes.Equal(rest.Bytes(), want) || got.Resumed != 1 || rest.restarts != 0 || asked.taken() != way {
					t.Errorf("going on by %s: %+v, began anew %d times, %v", way, got, rest.restarts, err)
				}
			}
			if received := received(t, c); len(received) != 1 || !bytes.Equal(received[0], want) {
				t.Errorf("%d files received", len(received))
			}
			requests, authorizations := store.seen()
			if len(requests) != 3 || len(authorizations) != 0 {
				t.Errorf("the object store saw %v with the credentials %v, want three reads and none", requests, authorizations)
			}
		})
	}
}

func fileOf(t *testing.T, uri string) storage.FileID {
	t.Helper()
	f, err := storage.ParseFileID(uri[strings.LastIndexByte(uri, '/')+1:])
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// expiring breaks the first answer of the store off, and passes what is asked for
// with the same URL on only when that has ended.
type expiring struct {
	mu     sync.Mutex
	urls   []string // signatures
	ranges []string
	status []int // of what the store answered
}

func (e *expiring) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		signature := q.Get("X-Amz-Signature")
		e.mu.Lock()
		call, same := len(e.urls), slices.Contains(e.urls, signature)
		e.urls, e.ranges = append(e.urls, signature), append(e.ranges, r.Header.Get("Range"))
		e.mu.Unlock()
		switch {
		case call == 0:
			w = &cutAfter{w, 300 << 10}
		case same:
			signed, _ := time.Parse("20060102T150405Z", q.Get("X-Amz-Date"))
			life, _ := strconv.Atoi(q.Get("X-Amz-Expires"))
			select {
			case <-time.After(time.Until(signed.Add(time.Duration(life+1) * time.Second))):
			case <-r.Context().Done():
			}
		}
		next.ServeHTTP(&statusOf{w, e}, r)
	})
}

type statusOf struct {
	http.ResponseWriter
	e *expiring
}

func (s *statusOf) WriteHeader(status int) {
	s.e.mu.Lock()
	s.e.status = append(s.e.status, status)
	s.e.mu.Unlock()
	s.ResponseWriter.WriteHeader(status)
}

// The store's own refusal of a URL that has ended in the middle of a transfer.
func TestFetchByURLGoesOnWithAnotherURL(t *testing.T) {
	t.Parallel()
	var e expiring
	stack, store := directStack(t, devstack.MinIOUser, e.wrap)
	service := stack.Serve(t, "PRESIGN_TTL=4s")
	id, token := stack.Workspace(t, "laptop")
	c := service.Client(t, id, token, fetchByURL)
	want := content(1 << 20)
	staged, err := c.Upload(t.Context(), []client.File{file("a.bin", "", want)}, client.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var sink buffer
	got, err := c.Fetch(t.Context(), fileOf(t, staged[0].URI), &sink, client.FetchOptions{})
	if err != nil || !bytes.Equal(sink.Bytes(), want) || sink.restarts != 0 || got.Resumed != 1 {
		t.Fatalf("%d bytes, %+v, began anew %d times, %v", sink.Len(), got, sink.restarts, err)
	}
	rest := fmt.Sprintf("bytes=%d-", 300<<10)
	if diff := cmp.Diff([]string{"", rest, rest}, e.ranges); diff != "" {
		t.Errorf("ranges: %s", diff)
	}
	if diff := cmp.Diff([]int{200, 403, 206}, e.status); diff != "" {
		t.Errorf("answers of the store: %s", diff)
	}
	if e.urls[1] != e.urls[0] || e.urls[2] == e.urls[0] {
		t.Errorf("it was asked with the signatures %v, want the first twice and another", e.urls)
	}
	if _, authorizations := store.seen(); len(authorizations) != 0 {
		t.Errorf("the store saw %v", authorizations)
	}
}

// Where the store cannot be reached, one file finds out, at once and without
// patience; some time later another one looks again.
func TestFetchByURLWithoutAWayToTheStore(t *testing.T) {
	t.Parallel()
	stack, store := directStack(t, devstack.MinIOUser)
	store.Close()
	service := stack.Serve(t)
	id, token := stack.Workspace(t, "laptop")
	var asked asks
	front := newFront(t, service.URL, asked.wrap)
	c := service.Client(t, id, token, fetchByURL, func(cfg *client.Config) { cfg.BaseURL, cfg.Patience = front.URL, -1 })
	want := content(1000)
	staged, err := c.Upload(t.Context(), []client.File{file("a.bin", "", want)}, client.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	fetch := func(way string) {
		t.Helper()
		var sink buffer
		if _, err := c.Fetch(t.Context(), fileOf(t, staged[0].URI), &sink, client.FetchOptions{}); err != nil || !bytes.Equal(sink.Bytes(), want) {
			t.Errorf("%d bytes, %v", sink.Len(), err)
		}
		if got := asked.taken(); got != way {
			t.Errorf("the service was asked for %q, want %q", got, way)
		}
	}
	fetch("url proxy")
	fetch("proxy")
	c.ForgetStore()
	fetch("url proxy")
}

// urlStandIn is a service and a store in one that behaves as told.
type urlStandIn struct {
	answer http.HandlerFunc // to who asks for a URL; nil: the URL
	store  http.HandlerFunc // nil: the content
	body   []byte

	mu   sync.Mutex
	ways []string
}

func (s *urlStandIn) note(way string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ways = append(s.ways, way)
}

// taken returns what was asked for since the last call.
func (s *urlStandIn) taken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ways := strings.Join(s.ways, " ")
	s.ways = nil
	return ways
}

// firstOnly answers once, and then as the rest does.
func firstOnly(first, rest http.HandlerFunc) http.HandlerFunc {
	var calls atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			first(w, r)
			return
		}
		rest(w, r)
	}
}

func (s *urlStandIn) content(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", tag(s.body))
	w.Header().Set("Content-Disposition", `attachment; filename="a.bin"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.body))
}

func (s *urlStandIn) url(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close") // net/http asks again on one that was used before
	_, _ = fmt.Fprintf(w, `{"url":"http://%s/store?X-Amz-Signature=secret","size":%d,"sha256":"%x","headers":{"X-Must":"go along"}}`, r.Host, len(s.body), sha256.Sum256(s.body))
}

func (s *urlStandIn) serve(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/store":
			if r.Header.Get("Authorization") != "" || r.Header.Get("X-Must") == "" {
				t.Errorf("the store was sent %v", r.Header)
			}
			s.note("store")
			if s.store != nil {
				s.store(w, r)
				return
			}
			w.Header().Set("ETag", `"of the store"`)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.body))
		case r.URL.Query().Get("delivery") == "url":
			s.note("url")
			if s.answer != nil {
				s.answer(w, r)
				return
			}
			s.url(w, r)
		default:
			s.note("proxy")
			s.content(w, r)
		}
	}
}

// Every file comes, right and whole, whatever service and store do; the second
// column is how, and the third how the next file comes.
func TestFetchByURLFindsAWay(t *testing.T) {
	t.Parallel()
	body := content(600 << 10)
	status := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { refuse(w, status, "OnPurpose") }
	}
	other := func(b []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
		}
	}
	for name, c := range map[string]struct {
		way, next string
		set       func(s *urlStandIn)
	}{
		"all is well": {"url store", "url store", func(*urlStandIn) {}},
		"the connection breaks": {"url store store", "url store", func(s *urlStandIn) {
			s.store = firstOnly(func(w http.ResponseWriter, r *http.Request) { other(body)(&cutAfter{w, 300 << 10}, r) }, other(body))
		}},
		"other bytes": {"url store proxy", "url store proxy", func(s *urlStandIn) { s.store = other(bytes.Repeat([]byte("x"), len(body))) }},
		"fewer bytes": {"url store proxy", "url store proxy", func(s *urlStandIn) { s.store = other(body[:1000]) }},
		"more bytes":  {"url store proxy", "url store proxy", func(s *urlStandIn) { s.store = other(append(slices.Clone(body), 1)) }},
		"more bytes, unannounced": {"url store proxy", "url store proxy", func(s *urlStandIn) {
			s.store = func(w http.ResponseWriter, _ *http.Request) {
				_ = http.NewResponseController(w).Flush()
				_, _ = w.Write(append(slices.Clone(body), 1))
			}
		}},
		"fewer bytes, unannounced": {"url store store proxy", "url store store proxy", func(s *urlStandIn) {
			s.store = func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") != "" {
					status(http.StatusRequestedRangeNotSatisfiable)(w, r)
					return
				}
				_ = http.NewResponseController(w).Flush()
				_, _ = w.Write(body[:1000])
			}
		}},
		"a range that was not asked for": {"url store store proxy", "url store store proxy", func(s *urlStandIn) {
			s.store = func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") == "" {
					w = &cutAfter{w, 300 << 10}
				} else {
					r.Header.Set("Range", "bytes=1000-")
				}
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
			}
		}},
		"it refuses":       {"url store proxy", "proxy", func(s *urlStandIn) { s.store = status(http.StatusForbidden) }},
		"it redirects":     {"url store proxy", "proxy", func(s *urlStandIn) { s.store = status(http.StatusTemporaryRedirect) }},
		"it has no object": {"url store proxy", "url store proxy", func(s *urlStandIn) { s.store = status(http.StatusNotFound) }},
		"it is busy":       {"url store store store proxy", "proxy", func(s *urlStandIn) { s.store = status(http.StatusServiceUnavailable) }},
		"it is busy once": {"url store store", "url store", func(s *urlStandIn) {
			s.store = firstOnly(status(http.StatusServiceUnavailable), other(body))
		}},
		"it hangs up": {"url store proxy", "proxy", func(s *urlStandIn) {
			s.store = func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
		}},
		"it never answers": {"url store proxy", "proxy", func(s *urlStandIn) {
			s.store = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		}},
		"a service that knows no ways": {"url proxy", "proxy", func(s *urlStandIn) { s.answer = s.content }},
		"a service that knows no such": {"url proxy", "proxy", func(s *urlStandIn) {
			s.answer = func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusBadRequest)
				_, _ = w.Write([]byte(`{"error":"unknown delivery"}`))
			}
		}},
		"a digest that nobody knows": {"url proxy", "url proxy", func(s *urlStandIn) {
			s.answer = func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write([]byte(`{"url":"http://x","size":1,"sha256":""}`))
			}
		}},
		"no address": {"url proxy", "url proxy", func(s *urlStandIn) {
			s.answer = func(w http.ResponseWriter, _ *http.Request) {
				_, _ = fmt.Fprintf(w, `{"url":"\u007f","size":1,"sha256":"%064x"}`, 1)
			}
		}},
		"a page to log in": {"url url store", "url store", func(s *urlStandIn) {
			s.answer = firstOnly(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`<html>`)) }, s.url)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &urlStandIn{body: body}
			c.set(s)
			cl := against(t, s.serve(t), fetchByURL, func(cfg *client.Config) {
				if name == "it never answers" {
					cfg.Silence = 50 * time.Millisecond
				}
			})
			for i, want := range []string{c.way, c.next} {
				var sink buffer
				got, err := cl.Fetch(t.Context(), newFileID(t), &sink, client.FetchOptions{})
				if err != nil || !bytes.Equal(sink.Bytes(), body) || got.SHA256 != sha256.Sum256(body) || got.Size != int64(len(body)) {
					t.Errorf("file %d: %d bytes, %v", i, sink.Len(), err)
				}
				if ways := s.taken(); ways != want {
					t.Errorf("file %d came by %q, want %q", i, ways, want)
				}
			}
		})
	}
}

// fullest is a buffer that knows how much was ever in it.
type fullest struct {
	buffer
	most int
}

func (f *fullest) Write(p []byte) (int, error) {
	n, err := f.buffer.Write(p)
	f.most = max(f.most, f.Len())
	return n, err
}

// A store that does not stop sending fills nobody's disk.
func TestFetchByURLTakesNoMoreThanWasAnnounced(t *testing.T) {
	t.Parallel()
	s := &urlStandIn{body: content(300 << 10), store: func(w http.ResponseWriter, _ *http.Request) {
		for range 100 {
			if _, err := w.Write(make([]byte, 100<<10)); err != nil {
				return
			}
		}
	}}
	var sink fullest
	if _, err := against(t, s.serve(t), fetchByURL).Fetch(t.Context(), newFileID(t), &sink, client.FetchOptions{}); err != nil || !bytes.Equal(sink.Bytes(), s.body) {
		t.Errorf("%d bytes, %v", sink.Len(), err)
	}
	if ways := s.taken(); ways != "url store proxy" || sink.most > len(s.body) {
		t.Errorf("it came by %q, and %d bytes were in the sink, want %d at most", ways, sink.most, len(s.body))
	}
}

// What the service says of the file holds, whichever way it was to come.
func TestFetchByURLEndsAtOnce(t *testing.T) {
	t.Parallel()
	refusal := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(`{"error":"because"}`))
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		sink   client.Sink
		max    int64
		way    string
		want   error
	}{
		"it is gone":      {refusal(http.StatusNotFound), &buffer{}, 0, "url", client.ErrNotFound},
		"no token":        {refusal(http.StatusUnauthorized), &buffer{}, 0, "url", client.ErrUnauthorized},
		"it is too large": {nil, &buffer{}, 999, "url", client.ErrTooLarge},
		"the sink fails":  {nil, fullDisk{}, 0, "url store", errDiskFull},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &urlStandIn{body: content(1000), answer: c.answer}
			cl := against(t, s.serve(t), fetchByURL)
			if _, err := cl.Fetch(t.Context(), newFileID(t), c.sink, client.FetchOptions{MaxBytes: c.max}); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if ways := s.taken(); ways != c.way {
				t.Errorf("asked for %q, want %q", ways, c.way)
			}
		})
	}
}

// The end of the caller's context is no failure of the store's.
func TestFetchByURLEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := &urlStandIn{body: content(1000)}
	s.store = firstOnly(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}, func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.body))
	})
	cl := against(t, s.serve(t), fetchByURL)
	_, err := cl.Fetch(ctx, newFileID(t), &buffer{}, client.FetchOptions{})
	if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want the end of the context and no URL", err)
	}
	_ = s.taken()
	if _, err := cl.Fetch(t.Context(), newFileID(t), &buffer{}, client.FetchOptions{}); err != nil || s.taken() != "url store" {
		t.Errorf("the next file: %v, not from the store", err)
	}
}
