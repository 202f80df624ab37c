package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/storage"
)

// buffer is a sink in memory.
type buffer struct {
	bytes.Buffer
	restarts int
}

func (b *buffer) Restart() error {
	b.Reset()
	b.restarts++
	return nil
}

// against is a client of a handler that stands in for the service.
func against(t *testing.T, h http.HandlerFunc, change ...func(*client.Config)) *client.Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	cfg := client.Config{BaseURL: srv.URL, Workspace: storage.WorkspaceID(uuid.New()), Token: "t"}
	for _, f := range change {
		f(&cfg)
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func content(n int) []byte {
	b := make([]byte, n)
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // test data
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

func tag(b []byte) string { return fmt.Sprintf(`"%x"`, sha256.Sum256(b)) }

// cutAfter lets n bytes of a body pass and then cuts the connection.
type cutAfter struct {
	http.ResponseWriter
	n int
}

func (c *cutAfter) Write(p []byte) (int, error) {
	if len(p) <= c.n {
		c.n -= len(p)
		return c.ResponseWriter.Write(p)
	}
	_, _ = c.ResponseWriter.Write(p[:c.n])
	_ = http.NewResponseController(c.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

func newFileID(t *testing.T) storage.FileID {
	t.Helper()
	f, err := storage.NewFileID()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFetchGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	want := content(1 << 20)
	var calls atomic.Int32
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", tag(want))
		w.Header().Set("Content-Disposition", `attachment; filename="a.bin"`)
		if calls.Add(1) < 4 {
			w = &cutAfter{w, 300 << 10}
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(want))
	})
	var sink buffer
	var last int64
	got, err := c.Fetch(t.Context(), newFileID(t), &sink, client.FetchOptions{Progress: func(done, total int64) {
		if total != int64(len(want)) || done < last {
			t.Errorf("progress %d of %d after %d", done, total, last)
		}
		last = done
	}})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sink.Bytes(), want) || got.SHA256 != sha256.Sum256(want) || got.Size != int64(len(want)) || got.Filename != "a.bin" {
		t.Errorf("got %d bytes %+v", sink.Len(), got)
	}
	if got.Resumed != 3 || sink.restarts != 0 {
		t.Errorf("resumed %d times, began anew %d times, want 3 and 0", got.Resumed, sink.restarts)
	}
}

// A resumed transfer must never join the beginning of one content to the end of
// another.
func TestFetchOfContentThatChangesStartsOver(t *testing.T) {
	t.Parallel()
	first, second := content(1<<20), bytes.Repeat([]byte("x"), 1<<20)
	for name, honest := range map[string]bool{"the service honours If-Range": true, "it ignores If-Range": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			c := against(t, func(w http.ResponseWriter, r *http.Request) {
				if calls.Add(1) == 1 {
					w.Header().Set("ETag", tag(first))
					http.ServeContent(&cutAfter{w, 300 << 10}, r, "", time.Time{}, bytes.NewReader(first))
					return
				}
				if !honest {
					r.Header.Del("If-Range")
				}
				w.Header().Set("ETag", tag(second))
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(second))
			})
			var sink buffer
			got, err := c.Fetch(t.Context(), newFileID(t), &sink, client.FetchOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(sink.Bytes(), second) || got.SHA256 != sha256.Sum256(second) || sink.restarts != 1 || got.Resumed != 0 {
				t.Errorf("%d bytes, began anew %d times, resumed %d times; want the second content from its beginning", sink.Len(), sink.restarts, got.Resumed)
			}
		})
	}
}

func TestFetchWithoutTagStartsOver(t *testing.T) {
	t.Parallel()
	want := content(600 << 10)
	var calls atomic.Int32
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			t.Error("a range was asked for, though nobody can tell of which content")
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(want)))
		if calls.Add(1) == 1 {
			w = &cutAfter{w, 300 << 10}
		}
		_, _ = w.Write(want)
	})
	var sink buffer
	if _, err := c.Fetch(t.Context(), newFileID(t), &sink, client.FetchOptions{}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sink.Bytes(), want) || sink.restarts != 1 {
		t.Errorf("%d bytes, began anew %d times", sink.Len(), sink.restarts)
	}
}

func TestFetchComparesTheDigest(t *testing.T) {
	t.Parallel()
	good, bad := content(4<<10), bytes.Repeat([]byte("x"), 4<<10)
	serve := func(body func(call int32) []byte) *client.Client {
		var calls atomic.Int32
		return against(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", tag(good))
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body(calls.Add(1))))
		})
	}
	var sink buffer
	c := serve(func(call int32) []byte {
		if call == 1 {
			return bad
		}
		return good
	})
	if _, err := c.Fetch(t.Context(), newFileID(t), &sink, client.FetchOptions{}); err != nil || !bytes.Equal(sink.Bytes(), good) {
		t.Errorf("after one bad transfer: %v", err)
	}
	c = serve(func(int32) []byte { return bad })
	if _, err := c.Fetch(t.Context(), newFileID(t), &sink, client.FetchOptions{}); !errors.Is(err, client.ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
}

// What one fetch could not finish, another one does: after a restart too, with the
// digest of what is there computed anew.
func TestFetchGoesOnFromAnEarlierOne(t *testing.T) {
	t.Parallel()
	want := content(1 << 20)
	var calls, ranges atomic.Int32
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", tag(want))
		if r.Header.Get("Range") != "" {
			ranges.Add(1)
		}
		if calls.Add(1) == 1 {
			w = &cutAfter{w, 300 << 10}
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(want))
	}, func(cfg *client.Config) { cfg.Patience = -1 })
	var sink buffer
	f := newFileID(t)
	ctx, cancel := context.WithCancel(t.Context())
	var etag string
	_, err := c.Fetch(ctx, f, &sink, client.FetchOptions{
		Began: func(tag string) {
			if etag = tag; sink.Len() > 0 {
				t.Error("the tag came after content")
			}
		},
		Progress: func(done, _ int64) {
			if done >= 200<<10 {
				cancel()
			}
		},
	})
	if !errors.Is(err, context.Canceled) || sink.Len() < 200<<10 || etag != tag(want) {
		t.Fatalf("got %v after %d bytes of %s, want the end of the context", err, sink.Len(), etag)
	}
	sum := sha256.New()
	_, _ = sum.Write(sink.Bytes())
	got, err := c.Fetch(t.Context(), f, &sink, client.FetchOptions{From: client.Partial{Offset: int64(sink.Len()), ETag: etag, Sum: sum}})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sink.Bytes(), want) || got.SHA256 != sha256.Sum256(want) || got.Size != int64(len(want)) || sink.restarts != 0 || ranges.Load() == 0 {
		t.Errorf("%d bytes, began anew %d times, %d ranges", sink.Len(), sink.restarts, ranges.Load())
	}
}

// A service without tags cannot be resumed, and the error says what went wrong.
func TestFetchWithoutTagsTellsTheCause(t *testing.T) {
	t.Parallel()
	want := content(600 << 10)
	c := against(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(want)))
		_, _ = (&cutAfter{w, 300 << 10}).Write(want)
	})
	if _, err := c.Fetch(t.Context(), newFileID(t), &buffer{}, client.FetchOptions{}); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, client.ErrCorrupt) {
		t.Errorf("got %v, want the broken connection", err)
	}
}

func TestRetryAfterMayBeADate(t *testing.T) {
	t.Parallel()
	for date, want := range map[string]time.Duration{"Wed, 21 Oct 2015 07:28:05 GMT": 5 * time.Second, "Wed, 21 Oct 2015 07:27:00 GMT": 0, "soon": 0} {
		c := against(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", "Wed, 21 Oct 2015 07:28:00 GMT") // whatever the time is here
			w.Header().Set("Retry-After", date)
			w.WriteHeader(http.StatusServiceUnavailable)
		}, func(cfg *client.Config) { cfg.Patience = -1 })
		_, err := c.Ack(t.Context(), newFileID(t), nil)
		var answer *client.Error
		if !errors.As(err, &answer) || answer.RetryAfter != want {
			t.Errorf("%s: got %v, want to wait %v", date, err, want)
		}
	}
}

var errDiskFull = errors.New("disk full")

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errDiskFull }
func (fullDisk) Restart() error            { return nil }

func TestFetchEndsAtOnce(t *testing.T) {
	t.Parallel()
	body := content(1000)
	serve := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", tag(body))
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	}
	answer := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"error":"because"}`)
		}
	}
	for name, c := range map[string]struct {
		serve http.HandlerFunc
		sink  client.Sink
		max   int64
		want  error
	}{
		"the sink fails":  {serve, fullDisk{}, 0, errDiskFull},
		"it is too large": {serve, &buffer{}, 999, client.ErrTooLarge},
		"it is gone":      {answer(http.StatusNotFound), &buffer{}, 0, client.ErrNotFound},
		"no token":        {answer(http.StatusUnauthorized), &buffer{}, 0, client.ErrUnauthorized},
		"a redirect":      {answer(http.StatusFound), &buffer{}, 0, new(client.Error)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			cl := against(t, func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				c.serve(w, r)
			})
			_, err := cl.Fetch(t.Context(), newFileID(t), c.sink, client.FetchOptions{MaxBytes: c.max})
			var refusal *client.Error
			if _, any := c.want.(*client.Error); any { //nolint:errorlint // a marker of the table
				if !errors.As(err, &refusal) || refusal.Status != http.StatusFound {
					t.Errorf("got %v, want status 302", err)
				}
			} else if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if calls.Load() != 1 {
				t.Errorf("%d calls, want 1", calls.Load())
			}
		})
	}
}

func TestFetchIntoAPipeCannotStartOver(t *testing.T) {
	t.Parallel()
	want := content(600 << 10)
	c := against(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(want)))
		_, _ = (&cutAfter{w, 300 << 10}).Write(want)
	})
	if _, err := c.Fetch(t.Context(), newFileID(t), client.WriterSink(io.Discard), client.FetchOptions{}); !errors.Is(err, client.ErrRestarted) {
		t.Errorf("got %v, want ErrRestarted", err)
	}
}

// The service says when to come back, and that is when the client comes back.
func TestRetryAfterIsWaitedFor(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	asked := make(chan time.Duration, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, `{"acked":true}`)
	}))
	t.Cleanup(srv.Close)
	c, err := client.New(client.Config{
		BaseURL: srv.URL, Workspace: storage.WorkspaceID(uuid.New()),
		Logger: waitLogger(func(d time.Duration) { asked <- d }),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	reply, err := c.Ack(t.Context(), newFileID(t), nil)
	if err != nil || !reply.Acked {
		t.Fatal(reply, err)
	}
	if d := <-asked; d != time.Second {
		t.Errorf("waited %v, want the second that was asked for", d)
	}
}

func TestPatienceHasAnEnd(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.WriteHeader(http.StatusBadGateway)
	}))
	t.Cleanup(srv.Close)
	c, err := client.New(client.Config{BaseURL: srv.URL, Workspace: storage.WorkspaceID(uuid.New()), Patience: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if _, err := c.Ack(t.Context(), newFileID(t), nil); err == nil || calls.Load() != 1 {
		t.Errorf("%d calls, error %v; want one call and its error", calls.Load(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Ack(ctx, newFileID(t), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's end", err)
	}
}
