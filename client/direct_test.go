package client_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/servertest"
)

// front is a reverse proxy that remembers the credentials it sees. It keeps the
// Host that it is called by, which presigned requests are signed for.
type front struct {
	*httptest.Server

	mu             sync.Mutex
	requests       []string // METHOD PATH
	authorizations []string
}

// newFront is a front of a server; wrapped handlers may answer instead of it.
func newFront(t *testing.T, target string, wrap ...func(http.Handler) http.Handler) *front {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	var next http.Handler = &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			r.Out.Host = r.In.Host
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	for _, w := range wrap {
		next = w(next)
	}
	f := &front{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.requests = append(f.requests, r.Method+" "+r.URL.Path)
		for _, name := range []string{"Authorization", "Cookie", "Proxy-Authorization", "X-Workspace-ID"} {
			if v := r.Header.Get(name); v != "" {
				f.authorizations = append(f.authorizations, v)
			}
		}
		f.mu.Unlock()
		next.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		f.Close()
		transport.CloseIdleConnections()
	})
	return f
}

func (f *front) seen() (requests, authorizations []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.requests...), append([]string(nil), f.authorizations...)
}

// directStack is a stack whose object store is reached from outside through a
// front.
func directStack(t *testing.T, s3 func(testing.TB) devstack.S3, wrap ...func(http.Handler) http.Handler) (*servertest.Stack, *front) {
	t.Helper()
	server := s3(t)
	f := newFront(t, server.Endpoint, wrap...)
	return servertest.NewStack(t,
		"S3_BUCKET="+server.Bucket, "S3_ENDPOINT="+server.Endpoint, "S3_PUBLIC_ENDPOINT="+f.URL,
		"AWS_ACCESS_KEY_ID="+server.AccessKey, "AWS_SECRET_ACCESS_KEY="+server.SecretKey, "AWS_SESSION_TOKEN="+server.SessionToken,
	), f
}

// received follows the feed once and returns the uploads' contents, acked.
func received(t *testing.T, c *client.Client) (contents [][]byte) {
	t.Helper()
	for a, err := range c.Follow(t.Context(), client.FollowConfig{Once: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if *a.Method == wire.MethodChatUpload {
			contents = append(contents, fetchAndAck(t, c, a))
		}
	}
	return contents
}

func TestDirectUploadTheWholeJob(t *testing.T) {
	t.Parallel()
	for name, s3 := range map[string]func(testing.TB) devstack.S3{"minio": devstack.MinIOUser, "versitygw": devstack.VersityGW} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stack, store := directStack(t, s3)
			service := stack.Serve(t)
			id, token := stack.Workspace(t, "laptop")
			c := service.Client(t, id, token)
			contents := [][]byte{content(1), content(4 << 10), content(7 << 20), content(2), content(3), content(25 << 20)}
			var files []client.File
			var want int64
			for i, b := range contents {
				files = append(files, file(`quote " and \ and ü and 中文.txt`, []string{"", "text/plain; charset=utf-8"}[i%2], b))
				want += int64(len(b))
			}
			var last int64
			staged, err := c.UploadDirect(t.Context(), files, client.DirectOptions{Progress: func(n int64) { last = n }})
			if err != nil {
				t.Fatal(err)
			}
			if last != want {
				t.Errorf("progress ended at %d, want %d", last, want)
			}
			if staged[0].Name != "quote___and___and___and___.txt" || staged[1].MIMEType != "text/plain" || staged[5].Size != 25<<20 {
				t.Errorf("%+v", staged)
			}
			if got := received(t, c); !slices.EqualFunc(contents, got, bytes.Equal) {
				t.Error("contents differ")
			}
			requests, authorizations := store.seen()
			if len(requests) != len(files) || len(authorizations) != 0 {
				t.Errorf("the object store saw %v with the credentials %v, want a put a file and none", requests, authorizations)
			}
			for _, secret := range []string{"X-Amz-Signature", "X-Amz-Credential", token} {
				if strings.Contains(service.Log(), secret) {
					t.Errorf("the log holds %q", secret)
				}
			}
		})
	}
}

// trouble lets the object store fail each file in a way of its own, once.
type trouble struct {
	mu   sync.Mutex
	seen map[string]bool
	next int
}

func (x *trouble) wrap(next http.Handler) http.Handler {
	ways := []http.HandlerFunc{
		func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusServiceUnavailable, "SlowDown") },
		func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, http.StatusInternalServerError, "InternalError")
		},
		func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusBadRequest, "RequestTimeout") },
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		// The store has it, and the answer is lost.
		func(_ http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x.mu.Lock()
		first := !x.seen[r.URL.Path]
		x.seen[r.URL.Path] = true
		if first {
			x.next++
		}
		way := x.next - 1
		x.mu.Unlock()
		if first {
			ways[way%len(ways)](w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuse answers in the words of S3.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>`+code+`</Code><Message>on purpose</Message></Error>`)
}

func TestDirectUploadGoesOnWhileTheStoreFails(t *testing.T) {
	t.Parallel()
	x := &trouble{seen: make(map[string]bool)}
	stack, store := directStack(t, devstack.MinIOUser, x.wrap)
	service := stack.Serve(t)
	id, token := stack.Workspace(t, "laptop")
	var log bytes.Buffer
	var mu sync.Mutex
	c := service.Client(t, id, token, func(cfg *client.Config) {
		cfg.Logger = slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return log.Write(p)
		}), nil))
	})
	var contents [][]byte
	var files []client.File
	for i := range 5 {
		contents = append(contents, content(2<<20+i))
		files = append(files, file("a", "", contents[i]))
	}
	var last int64
	if _, err := c.UploadDirect(t.Context(), files, client.DirectOptions{Progress: func(n int64) { last = n }}); err != nil {
		t.Fatal(err)
	}
	if want := int64(5*2<<20 + 10); last != want {
		t.Errorf("progress ended at %d, want %d", last, want)
	}
	if got := received(t, c); !slices.EqualFunc(contents, got, bytes.Equal) {
		t.Error("contents differ")
	}
	// A refusal in the middle of a body may take the next request's connection with it.
	if requests, _ := store.seen(); len(requests) < 10 {
		t.Errorf("%d requests to the object store, want two of each file at least", len(requests))
	}
	mu.Lock()
	defer mu.Unlock()
	if text := log.String(); strings.Count(text, "trying again") < 5 || strings.Contains(text, "X-Amz") || strings.Contains(text, token) {
		t.Errorf("the client's log:\n%s", text)
	}
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// The service commits and its answer is lost: asking again is answered the same.
func TestDirectCommitWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	stack := servertest.NewStack(t)
	service := stack.Serve(t)
	id, token := stack.Workspace(t, "laptop")
	var lost atomic.Int32
	f := newFront(t, service.URL, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/direct/commit") && lost.Add(1) == 1 {
				next.ServeHTTP(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler)
			}
			next.ServeHTTP(w, r)
		})
	})
	c := service.Client(t, id, token, func(cfg *client.Config) { cfg.BaseURL = f.URL })
	staged, err := c.UploadDirect(t.Context(), []client.File{file("a", "", content(5)), file("b", "", content(6))}, client.DirectOptions{})
	if err != nil || len(staged) != 2 || lost.Load() != 2 {
		t.Fatalf("%+v after %d commits, %v", staged, lost.Load(), err)
	}
	if got := received(t, c); !slices.EqualFunc([][]byte{content(5), content(6)}, got, bytes.Equal) {
		t.Error("contents differ")
	}
}

// standIn is a service and an object store in one.
type standIn struct {
	commit http.HandlerFunc
	put    http.HandlerFunc
}

func (s standIn) client(t *testing.T) *client.Client {
	t.Helper()
	return against(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut:
			s.put(w, r)
		case strings.HasSuffix(r.URL.Path, "/direct/commit"):
			s.commit(w, r)
		default:
			var in wire.DirectRequest
			_ = json.NewDecoder(r.Body).Decode(&in)
			reply := wire.DirectReply{CommitToken: "token"}
			for _, f := range in.Files {
				reply.Files = append(reply.Files, wire.DirectFile{
					UploadedFile: wire.UploadedFile{URI: "platform-pending:x/" + f.Name, Name: f.Name, Size: f.Size},
					DirectCall:   &wire.DirectCall{Method: http.MethodPut, URL: "http://" + r.Host + "/store/" + f.Name},
				})
			}
			_ = json.NewEncoder(w).Encode(reply)
		}
	})
}

// The files were committed, taken and swept before the commit's answer got
// through: the sender has done his part.
func TestDirectUploadThatWasTakenAlreadyIsDone(t *testing.T) {
	t.Parallel()
	c := standIn{
		put: func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if r.Header.Get("Authorization") != "" {
				t.Error("the object store was given the token")
			}
		},
		commit: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusGone)
			_, _ = io.WriteString(w, `{"error":"gone","code":"direct_committed"}`)
		},
	}.client(t)
	staged, err := c.UploadDirect(t.Context(), []client.File{file("a", "", content(5))}, client.DirectOptions{})
	want := []wire.UploadedFile{{URI: "platform-pending:x/a", Name: "a", Size: 5}}
	if diff := cmp.Diff(want, staged); diff != "" || err != nil {
		t.Errorf("%v, %s", err, diff)
	}
}

// A reservation that has come to nothing leaves the service's ordinary route. After
// an attempt that may have committed nobody knows what is staged.
func TestDirectCommitThatComesToNothing(t *testing.T) {
	t.Parallel()
	for code, status := range map[string]int{
		"direct_expired": http.StatusGone, "direct_token_invalid": http.StatusBadRequest, "direct_unavailable": http.StatusUnprocessableEntity,
	} {
		for _, before := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s after %d", code, before), func(t *testing.T) {
				t.Parallel()
				var attempts atomic.Int32
				c := standIn{
					put: func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) },
					commit: func(w http.ResponseWriter, _ *http.Request) {
						if int(attempts.Add(1)) <= before {
							w.WriteHeader(http.StatusInternalServerError)
							_, _ = io.WriteString(w, `{"error":"could not stage files"}`)
							return
						}
						w.WriteHeader(status)
						_, _ = io.WriteString(w, `{"error":"no","code":"`+code+`"}`)
					},
				}.client(t)
				_, err := c.UploadDirect(t.Context(), []client.File{file("a", "", content(5))}, client.DirectOptions{})
				var refusal *client.Error
				if !errors.As(err, &refusal) || refusal.Code != code || errors.Is(err, client.ErrDirectUnavailable) != (before == 0) {
					t.Errorf("%v", err)
				}
			})
		}
	}
}

// Four files are sent at a time: the store answers none before four are there.
func TestDirectUploadSendsFourAtATime(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int32
	var once sync.Once
	four := make(chan struct{})
	c := standIn{
		put: func(w http.ResponseWriter, r *http.Request) {
			n := now.Add(1)
			defer now.Add(-1)
			for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
			}
			if n == 4 {
				once.Do(func() { close(four) })
			}
			select {
			case <-four:
			case <-r.Context().Done():
			}
			_, _ = io.Copy(io.Discard, r.Body)
		},
		commit: func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(wire.UploadReply{Files: make([]wire.UploadedFile, 7)})
		},
	}.client(t)
	var files []client.File
	for range 7 {
		files = append(files, file("a", "", content(5)))
	}
	if _, err := c.UploadDirect(t.Context(), files, client.DirectOptions{}); err != nil || most.Load() != 4 {
		t.Errorf("%d at a time, %v", most.Load(), err)
	}
}
