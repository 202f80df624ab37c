package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
	"time"

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

// Whatever is in the way, nothing was staged, the error is short, and the way
// through the service is open.
func TestDirectUploadThatIsNotPossibleSaysSo(t *testing.T) {
	t.Parallel()
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(untrusted.Close)
	untrusted.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	forbidden := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusForbidden, "AccessDenied") }))
	t.Cleanup(forbidden.Close)
	moved := httptest.NewServer(http.RedirectHandler(forbidden.URL, http.StatusTemporaryRedirect))
	t.Cleanup(moved.Close)
	stack := servertest.NewStack(t)
	for name, env := range map[string]string{
		"switched off":       "DIRECT_TTL=0",
		"no object store":    "S3_BUCKET=",
		"nobody listens":     "S3_PUBLIC_ENDPOINT=http://127.0.0.1:1",
		"unknown name":       "S3_PUBLIC_ENDPOINT=http://nowhere.invalid",
		"unknown authority":  "S3_PUBLIC_ENDPOINT=" + untrusted.URL,
		"forbidden":          "S3_PUBLIC_ENDPOINT=" + forbidden.URL,
		"redirect elsewhere": "S3_PUBLIC_ENDPOINT=" + moved.URL,
	} {
		t.Run(name, func(t *testing.T) {
			id, token := stack.Workspace(t, name)
			c := stack.Serve(t, env).Client(t, id, token)
			files := []client.File{file("a", "", content(2<<20)), file("b", "", content(10))}
			staged, err := c.UploadDirect(t.Context(), files, client.DirectOptions{})
			if !errors.Is(err, client.ErrDirectUnavailable) || len(staged) != 0 {
				t.Errorf("%+v, %v, want ErrDirectUnavailable", staged, err)
			}
			if err != nil && (strings.Contains(err.Error(), "X-Amz") || strings.Contains(err.Error(), "\n")) {
				t.Errorf("the error shows too much: %v", err)
			}
			if rows, err := c.Activity(t.Context(), client.Query{}); err != nil || len(rows) != 0 {
				t.Fatalf("%d rows, %v", len(rows), err)
			}
			if _, err := c.Upload(t.Context(), files, client.UploadOptions{}); err != nil {
				t.Errorf("through the service: %v", err)
			}
			if n := len(received(t, c)); n != 2 {
				t.Errorf("%d files received", n)
			}
		})
	}

	older := against(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"error":"not found"}`)
	})
	if _, err := older.UploadDirect(t.Context(), []client.File{file("a", "", content(1))}, client.DirectOptions{}); !errors.Is(err, client.ErrDirectUnavailable) {
		t.Errorf("a service that knows no direct upload: %v", err)
	}
}

// Something stands before an object store that is dead, or begins to die. For as
// long as there is patience that may pass; then the service is asked.
func TestDirectUploadPastADeadStoreIsNotPossible(t *testing.T) {
	t.Parallel()
	answer := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<html>"+http.StatusText(status)+"</html>")
		}
	}
	for name, dead := range map[string]http.HandlerFunc{
		"502": answer(http.StatusBadGateway), "503": answer(http.StatusServiceUnavailable), "504": answer(http.StatusGatewayTimeout),
		"hangs up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"500 in the words of S3": func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, http.StatusInternalServerError, "InternalError")
		},
		"slow down, without an end": func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusServiceUnavailable, "SlowDown") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var puts, dying atomic.Int32
			stack, store := directStack(t, devstack.MinIOUser, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if puts.Add(1) == 1 {
						next.ServeHTTP(w, r) // one file gets through
						return
					}
					dying.Add(1)
					dead(w, r)
				})
			})
			service := stack.Serve(t)
			id, token := stack.Workspace(t, "laptop")
			for _, patience := range []time.Duration{-1, 600 * time.Millisecond} {
				puts.Store(0)
				dying.Store(0)
				c := service.Client(t, id, token, func(cfg *client.Config) { cfg.Patience = patience })
				files := []client.File{file("a", "", content(10)), file("b", "", content(2<<20))}
				staged, err := c.UploadDirect(t.Context(), files, client.DirectOptions{})
				if !errors.Is(err, client.ErrDirectUnavailable) || len(staged) != 0 {
					t.Errorf("%v: %+v, %v, want ErrDirectUnavailable", patience, staged, err)
				}
				if err != nil && (strings.Contains(err.Error(), "X-Amz") || strings.Contains(err.Error(), "\n")) {
					t.Errorf("%v: the error shows too much: %v", patience, err)
				}
				if n := dying.Load(); patience > 0 && n < 2 {
					t.Errorf("%v: it gave up after %d attempts", patience, n)
				}
				if rows, err := c.Activity(t.Context(), client.Query{}); err != nil || len(rows) != 0 {
					t.Fatalf("%v: %d rows, %v", patience, len(rows), err)
				}
			}
			c := service.Client(t, id, token)
			ctx, cancel := context.WithCancel(t.Context())
			f := file("c", "", content(10))
			open := f.Open
			f.Open = func() (io.ReadCloser, error) {
				if puts.Load() > 0 {
					cancel() // while it is sent
				}
				return open()
			}
			if _, err := c.UploadDirect(ctx, []client.File{f}, client.DirectOptions{}); !errors.Is(err, context.Canceled) || errors.Is(err, client.ErrDirectUnavailable) {
				t.Errorf("somebody who has given up: %v", err)
			}
			if _, authorizations := store.seen(); len(authorizations) != 0 {
				t.Errorf("the object store saw %v", authorizations)
			}
		})
	}
}

func TestDirectUploadOfWhatCannotBeSent(t *testing.T) {
	t.Parallel()
	stack := servertest.NewStack(t)
	service := stack.Serve(t)
	id, token := stack.Workspace(t, "laptop")
	c, stranger := service.Client(t, id, token), service.Client(t, id, "wrong")
	upload := func(c *client.Client, f client.File) error {
		_, err := c.UploadDirect(t.Context(), []client.File{file("good", "", content(5)), f}, client.DirectOptions{})
		return err
	}
	// second opens as something else after the first time.
	second := func(open func() (io.ReadCloser, error)) client.File {
		f := file("a", "", content(3<<20))
		first, opened := f.Open, atomic.Int32{}
		f.Open = func() (io.ReadCloser, error) {
			if opened.Add(1) == 1 {
				return first()
			}
			return open()
		}
		return f
	}
	reads := func(b []byte) func() (io.ReadCloser, error) {
		return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
	}
	sized := func(size int64) client.File {
		f := file("a", "", content(10))
		f.Size = size
		return f
	}
	errDisk := errors.New("disk is gone")
	for name, c := range map[string]struct{ got, want error }{
		"wrong token":             {upload(stranger, file("a", "", content(1))), client.ErrUnauthorized},
		"too large":               {upload(c, file("a", "", content(25<<20+1))), client.ErrTooLarge},
		"empty":                   {upload(c, file("a", "", nil)), client.ErrEmptyFile},
		"shorter than it says":    {upload(c, sized(11)), client.ErrFileChanged},
		"longer than it says":     {upload(c, sized(9)), client.ErrFileChanged},
		"shrinks before the send": {upload(c, second(reads(content(3<<20-1)))), client.ErrFileChanged},
		"grows before the send":   {upload(c, second(reads(content(3<<20+1)))), client.ErrFileChanged},
		"changes before the send": {upload(c, second(reads(bytes.Repeat([]byte("x"), 3<<20)))), client.ErrFileChanged},
		"cannot be opened again":  {upload(c, second(func() (io.ReadCloser, error) { return nil, errDisk })), errDisk},
		"cannot be read again": {upload(c, second(func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(content(2<<20)), failing{errDisk})), nil
		})), errDisk},
	} {
		if !errors.Is(c.got, c.want) || errors.Is(c.got, client.ErrDirectUnavailable) {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
	if err := upload(c, sized(-1)); err == nil || !strings.Contains(err.Error(), "size must be known") {
		t.Errorf("unknown size: %v", err)
	}
	if _, err := c.UploadDirect(t.Context(), nil, client.DirectOptions{}); err == nil {
		t.Error("no files were taken")
	}
	if _, err := c.UploadDirect(t.Context(), make([]client.File, 65), client.DirectOptions{}); err == nil {
		t.Error("65 files were taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.UploadDirect(ctx, []client.File{file("a", "", content(1))}, client.DirectOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if rows, err := c.Activity(t.Context(), client.Query{}); err != nil || len(rows) != 0 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
}

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
					Method:       http.MethodPut, URL: "http://" + r.Host + "/store/" + f.Name,
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
