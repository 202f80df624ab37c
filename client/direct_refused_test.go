package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/servertest"
)

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
