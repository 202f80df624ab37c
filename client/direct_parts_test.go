package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/storage"
)

// largeFiles is the service's configuration for the largest files there are.
var largeFiles = []string{"MAX_FILE_BYTES=104857600", "MAX_REQUEST_BYTES=419430400"}

// largeContent is not the same anywhere in its parts.
func largeContent(size int) []byte {
	block := content(1<<20 + 7)
	return bytes.Repeat(block, size/len(block)+1)[:size]
}

// partsSeen counts the requests for parts by number, and those for whole files.
type partsSeen struct {
	mu    sync.Mutex
	parts map[string]int
	whole int
	at    func(number string, times int, w http.ResponseWriter, r *http.Request) (answered bool)
}

func (s *partsSeen) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		number := r.URL.Query().Get("partNumber")
		s.mu.Lock()
		if number == "" {
			s.whole++
		} else {
			s.parts[number]++
		}
		times := s.parts[number]
		s.mu.Unlock()
		if number == "" || s.at == nil || !s.at(number, times, w, r) {
			next.ServeHTTP(w, r)
		}
	})
}

func (s *partsSeen) counts() (parts map[string]int, whole int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.parts, s.whole
}

// hidden has no Seek: parts are read up to.
type hidden struct{ io.Reader }

func (hidden) Close() error { return nil }

// seekable is like a file on disk.
type seekable struct{ *bytes.Reader }

func (seekable) Close() error { return nil }

func TestDirectUploadInParts(t *testing.T) {
	t.Parallel()
	for name, s3 := range map[string]func(testing.TB) devstack.S3{"minio": devstack.MinIOUser, "versitygw": devstack.VersityGW} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := &partsSeen{parts: make(map[string]int)}
			stack, _ := directStack(t, s3, seen.wrap)
			service := stack.Serve(t, largeFiles...)
			all := largeContent(storage.MaxFileBytesCeiling)
			for _, f := range []struct {
				size  int
				parts int
				open  func([]byte) io.ReadCloser
			}{
				{storage.DirectPartsFrom, 0, func(b []byte) io.ReadCloser { return seekable{bytes.NewReader(b)} }},
				{storage.DirectPartsFrom + 1, 5, func(b []byte) io.ReadCloser { return hidden{bytes.NewReader(b)} }},
				{storage.MaxFileBytesCeiling, 7, func(b []byte) io.ReadCloser { return seekable{bytes.NewReader(b)} }},
			} {
				clear(seen.parts)
				seen.whole = 0
				id, token := stack.Workspace(t, fmt.Sprint("laptop of ", f.size))
				c := service.Client(t, id, token)
				want := all[:f.size]
				var last int64
				staged, err := c.UploadDirect(t.Context(), []client.File{
					{Name: "large.bin", Size: int64(f.size), Open: func() (io.ReadCloser, error) { return f.open(want), nil }},
				}, client.DirectOptions{Progress: func(n int64) { last = n }})
				if err != nil {
					t.Fatalf("%d bytes: %v", f.size, err)
				}
				parts, whole := seen.counts()
				if len(parts) != f.parts || whole != max(0, 1-f.parts) || last != int64(f.size) || staged[0].Size != int64(f.size) {
					t.Errorf("%d bytes: parts %v, %d whole files, progress ended at %d, %+v", f.size, parts, whole, last, staged)
				}
				if got := received(t, c); len(got) != 1 || !bytes.Equal(got[0], want) {
					t.Errorf("%d bytes: the content differs", f.size)
				}
			}
			if strings.Contains(service.Log(), "X-Amz-Signature") {
				t.Error("the log holds a signature")
			}
		})
	}
}

// Parts that fail are sent again, alone; four are on their way at a time.
func TestDirectUploadSendsAPartAgainAlone(t *testing.T) {
	t.Parallel()
	var once sync.Once
	four := make(chan struct{})
	var mu sync.Mutex
	now := 0
	seen := &partsSeen{parts: make(map[string]int)}
	seen.at = func(number string, times int, w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		if now++; now == 4 {
			once.Do(func() { close(four) })
		}
		mu.Unlock()
		defer func() {
			mu.Lock()
			now--
			mu.Unlock()
		}()
		select {
		case <-four: // the first four are here together
		case <-r.Context().Done():
		}
		if times > 1 || number != "2" && number != "5" {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		refuse(w, http.StatusServiceUnavailable, "SlowDown")
		return true
	}
	stack, _ := directStack(t, devstack.MinIOUser, seen.wrap)
	service := stack.Serve(t, largeFiles...)
	id, token := stack.Workspace(t, "laptop")
	c := service.Client(t, id, token)
	want := largeContent(storage.DirectPartsFrom + 1)
	var last int64
	if _, err := c.UploadDirect(t.Context(), []client.File{file("large.bin", "", want)}, client.DirectOptions{Progress: func(n int64) { last = n }}); err != nil {
		t.Fatal(err)
	}
	parts, _ := seen.counts()
	for number, times := range map[string]int{"1": 1, "2": 2, "3": 1, "4": 1, "5": 2} {
		if parts[number] != times {
			t.Errorf("part %s was sent %d times, want %d", number, parts[number], times)
		}
	}
	if last != int64(len(want)) {
		t.Errorf("progress ended at %d", last)
	}
	if got := received(t, c); !slices.EqualFunc([][]byte{want}, got, bytes.Equal) {
		t.Error("the content differs")
	}
}

// A service that answers with one request, because its identity may not list
// parts, gets the file in one.
func TestDirectUploadWithoutPartsIsOneRequest(t *testing.T) {
	t.Parallel()
	seen := &partsSeen{parts: make(map[string]int)}
	stack, _ := directStack(t, func(tb testing.TB) devstack.S3 {
		server := devstack.MinIO(tb)
		policy := strings.Replace(devstack.DirectPolicy(server.Bucket), `"Statement":[`,
			`"Statement":[{"Effect":"Deny","Action":["s3:ListMultipartUploadParts"],"Resource":["arn:aws:s3:::`+server.Bucket+`/*"]},`, 1)
		bound, err := server.Session(tb.Context(), policy)
		if err != nil {
			tb.Fatal(err)
		}
		return bound
	}, seen.wrap)
	service := stack.Serve(t, largeFiles...)
	id, token := stack.Workspace(t, "laptop")
	c := service.Client(t, id, token)
	want := largeContent(storage.DirectPartsFrom + 1)
	if _, err := c.UploadDirect(t.Context(), []client.File{file("large.bin", "", want)}, client.DirectOptions{}); err != nil {
		t.Fatal(err)
	}
	if parts, whole := seen.counts(); len(parts) != 0 || whole != 1 {
		t.Errorf("parts %v and %d whole files, want one", parts, whole)
	}
	if log := service.Log(); !strings.Contains(log, "s3:ListMultipartUploadParts") {
		t.Errorf("the log does not say why:\n%s", log)
	}
	if got := received(t, c); !slices.EqualFunc([][]byte{want}, got, bytes.Equal) {
		t.Error("the content differs")
	}
}

// The file changes after it was hashed, in one part: what is there is another
// file, and is not staged.
func TestDirectUploadNoticesAPartThatChanges(t *testing.T) {
	t.Parallel()
	stack, _ := directStack(t, devstack.MinIOUser)
	service := stack.Serve(t, largeFiles...)
	id, token := stack.Workspace(t, "laptop")
	c := service.Client(t, id, token)
	first := largeContent(storage.DirectPartsFrom + 1)
	for name, changed := range map[string]func() []byte{
		"other bytes": func() []byte {
			second := bytes.Clone(first)
			second[20<<20]++
			return second
		},
		"short":      func() []byte { return first[:40<<20] },
		"very short": func() []byte { return first[:1] },
	} {
		opened := 0
		var mu sync.Mutex
		_, err := c.UploadDirect(t.Context(), []client.File{{Name: "large.bin", Size: int64(len(first)), Open: func() (io.ReadCloser, error) {
			mu.Lock()
			defer mu.Unlock()
			if opened++; opened == 1 {
				return hidden{bytes.NewReader(first)}, nil
			}
			return hidden{bytes.NewReader(changed())}, nil
		}}}, client.DirectOptions{})
		if !errors.Is(err, client.ErrFileChanged) {
			t.Errorf("%s: %v, want ErrFileChanged", name, err)
		}
	}
	if rows, err := c.Activity(t.Context(), client.Query{}); err != nil || len(rows) != 0 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
}

// The sender goes away while a part is on its way, having sent others.
func TestDirectUploadThatIsGivenUpStagesNothing(t *testing.T) {
	t.Parallel()
	ctx, leave := context.WithCancelCause(t.Context())
	gone := errors.New("the sender leaves")
	seen := &partsSeen{parts: make(map[string]int)}
	seen.at = func(number string, _ int, _ http.ResponseWriter, r *http.Request) bool {
		if number != "5" {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body) // who leaves is noticed after it
		leave(gone)
		<-r.Context().Done()
		return true
	}
	stack, _ := directStack(t, devstack.MinIOUser, seen.wrap)
	service := stack.Serve(t, largeFiles...)
	id, token := stack.Workspace(t, "laptop")
	c := service.Client(t, id, token)
	if _, err := c.UploadDirect(ctx, []client.File{file("large.bin", "", largeContent(storage.DirectPartsFrom+1))}, client.DirectOptions{}); !errors.Is(err, gone) {
		t.Errorf("%v, want %v", err, gone)
	}
	if rows, err := c.Activity(t.Context(), client.Query{}); err != nil || len(rows) != 0 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
}
