package handlers_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

// inRows keeps all content in the rows.
func inRows(t *testing.T) func(*handlers.Config) {
	return func(cfg *handlers.Config) {
		pool, err := blob.NewPool(blob.PoolConfig{BudgetBytes: 256 << 20, ReservableBytes: 192 << 20})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Storage, err = staging.New(staging.Config{
			Rows: cfg.Uploads.(*metadata.Uploads), Budget: pool, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// inObjects is the harness's own way.
func inObjects(*testing.T) func(*handlers.Config) { return func(*handlers.Config) {} }

// eachPlacement runs a test over content in objects and content in rows.
func eachPlacement(t *testing.T, run func(t *testing.T, placement func(*testing.T) func(*handlers.Config))) {
	t.Helper()
	t.Run("object", func(t *testing.T) { t.Parallel(); run(t, inObjects) })
	t.Run("inline", func(t *testing.T) { t.Parallel(); run(t, inRows) })
}

// pattern is n bytes of which no two windows are alike.
func pattern(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%08x", i)
	}
	return b.String()[:n]
}

func etagOf(content string) string { return `"` + sha256Hex([]byte(content)) + `"` }

func (w *world) fetched() bool {
	w.t.Helper()
	return w.count(`SELECT count(*) FROM pending_uploads WHERE fetched_at IS NOT NULL`) > 0
}

func TestContentByRangeAndPrecondition(t *testing.T) {
	t.Parallel()
	const size = 3<<20 + 5 // several chunks of every reader on the way
	content, other := pattern(size), etagOf("other")
	etag := etagOf(content)
	all, none := [2]int{0, size}, [2]int{0, 0}
	last := size - 1
	eachPlacement(t, func(t *testing.T, placement func(*testing.T) func(*handlers.Config)) {
		w := newServer(t, placement(t))
		ws, token := w.workspace("poll")
		f := w.mustUpload(ws, token, part{name: "a.txt", mimeType: "text/plain", content: content})[0]
		for _, tc := range []struct {
			name    string
			headers []string
			status  int
			span    [2]int // from, to (exclusive)
		}{
			{"no header", nil, 200, all},

			{"first byte", []string{"Range", "bytes=0-0"}, 206, [2]int{0, 1}},
			{"last byte", []string{"Range", fmt.Sprintf("bytes=%d-%d", last, last)}, 206, [2]int{last, size}},
			{"one byte from the end", []string{"Range", "bytes=-1"}, 206, [2]int{last, size}},
			{"across chunks", []string{"Range", "bytes=1048570-2097160"}, 206, [2]int{1048570, 2097161}},
			{"from the middle on", []string{"Range", "bytes=1500000-"}, 206, [2]int{1500000, size}},
			{"from the start on", []string{"Range", "bytes=0-"}, 206, all},
			{"end beyond the end", []string{"Range", "bytes=3000000-9999999"}, 206, [2]int{3000000, size}},
			{"end beyond all numbers", []string{"Range", "bytes=3000000-99999999999999999999"}, 206, [2]int{3000000, size}},
			{"suffix", []string{"Range", "bytes=-70000"}, 206, [2]int{size - 70000, size}},
			{"suffix longer than the content", []string{"Range", "bytes=-99999999999999999999"}, 206, all},
			{"unit in capitals, leading zeros, blanks, an empty element", []string{"Range", "Bytes= 007-0009 ,"}, 206, [2]int{7, 10}},

			{"start at the end", []string{"Range", fmt.Sprintf("bytes=%d-", size)}, 416, none},
			{"start beyond all numbers", []string{"Range", "bytes=99999999999999999999-"}, 416, none},
			{"suffix of nothing", []string{"Range", "bytes=-0"}, 416, none},

			{"several ranges", []string{"Range", "bytes=0-0,5-6"}, 200, all},
			{"several ranges, one outside", []string{"Range", "bytes=0-0,99999999-"}, 200, all},
			{"end before start", []string{"Range", "bytes=5-4"}, 200, all},
			{"another unit", []string{"Range", "lines=0-5"}, 200, all},
			{"no unit", []string{"Range", "0-5"}, 200, all},
			{"no number", []string{"Range", "bytes=-"}, 200, all},
			{"no dash", []string{"Range", "bytes=5"}, 200, all},
			{"no range", []string{"Range", "bytes="}, 200, all},
			{"two dashes", []string{"Range", "bytes=1-2-3"}, 200, all},
			{"signs", []string{"Range", "bytes=+1-+2"}, 200, all},
			{"blank inside", []string{"Range", "bytes=1 - 2"}, 200, all},
			{"hexadecimal", []string{"Range", "bytes=0x1-0x2"}, 200, all},
			{"empty", []string{"Range", ""}, 200, all},

			{"If-Range of this content", []string{"Range", "bytes=5-9", "If-Range", etag}, 206, [2]int{5, 10}},
			{"If-Range of other content", []string{"Range", "bytes=5-9", "If-Range", other}, 200, all},
			{"If-Range of other content, range outside", []string{"Range", "bytes=99999999-", "If-Range", other}, 200, all},
			{"If-Range, weak", []string{"Range", "bytes=5-9", "If-Range", "W/" + etag}, 200, all},
			{"If-Range, a date", []string{"Range", "bytes=5-9", "If-Range", "Fri, 31 Dec 2100 23:59:59 GMT"}, 200, all},
			{"If-Range, anything", []string{"Range", "bytes=5-9", "If-Range", "*"}, 200, all},
			{"If-Range without a range", []string{"If-Range", etag}, 200, all},

			{"If-None-Match of this content", []string{"If-None-Match", etag}, 304, none},
			{"If-None-Match, weak", []string{"If-None-Match", "W/" + etag}, 304, none},
			{"If-None-Match, in a list", []string{"If-None-Match", other + `, "a,b" ,W/"c",` + etag}, 304, none},
			{"If-None-Match, any", []string{"If-None-Match", "*"}, 304, none},
			{"If-None-Match of other content", []string{"If-None-Match", other}, 200, all},
			{"If-None-Match, no tag", []string{"If-None-Match", strings.Trim(etag, `"`)}, 200, all},
			{"If-None-Match, unfinished", []string{"If-None-Match", strings.TrimSuffix(etag, `"`)}, 200, all},
			{"If-None-Match, empty", []string{"If-None-Match", ""}, 200, all},
			{"If-None-Match goes before the range", []string{"If-None-Match", etag, "Range", "bytes=0-4"}, 304, none},
			{"If-None-Match of other content and a range", []string{"If-None-Match", other, "Range", "bytes=0-4"}, 206, [2]int{0, 5}},

			{"If-Match of this content", []string{"If-Match", other + ", " + etag}, 200, all},
			{"If-Match, any", []string{"If-Match", "*"}, 200, all},
			{"If-Match and a range", []string{"If-Match", etag, "Range", "bytes=0-4"}, 206, [2]int{0, 5}},
			{"If-Match of other content", []string{"If-Match", other}, 412, none},
			{"If-Match, weak", []string{"If-Match", "W/" + etag}, 412, none},
			{"If-Match goes first", []string{"If-Match", other, "If-None-Match", etag, "Range", "bytes=99999999-"}, 412, none},

			{"dates do not count", []string{
				"If-Modified-Since", "Fri, 31 Dec 2100 23:59:59 GMT", "If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT",
			}, 200, all},
		} {
			t.Run(tc.name, func(t *testing.T) {
				got := w.do("GET", f.path("content"), token, nil, tc.headers...)
				if got.status != tc.status {
					t.Fatalf("status %d, want %d: %.200s", got.status, tc.status, got.body)
				}
				want := map[string]string{"Content-Security-Policy": "default-src 'self'"}
				switch tc.status {
				case 200, 206:
					body := content[tc.span[0]:tc.span[1]]
					if got.body != body {
						t.Errorf("%d bytes that are not the %d wanted", len(got.body), len(body))
					}
					sum := sha256.Sum256([]byte(content))
					want["Content-Length"] = fmt.Sprint(len(body))
					want["Content-Type"] = "text/plain"
					want["Content-Disposition"] = `attachment; filename="a.txt"; filename*=UTF-8''a.txt`
					want["Accept-Ranges"] = "bytes"
					want["Repr-Digest"] = "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
					want["ETag"] = etag
					want["Cache-Control"] = "private, no-cache"
					want["Content-Range"] = ""
					if tc.status == 206 {
						want["Content-Range"] = fmt.Sprintf("bytes %d-%d/%d", tc.span[0], tc.span[1]-1, size)
					}
				case 304:
					want["ETag"] = etag
					want["Cache-Control"] = "private, no-cache"
					want["Content-Type"], want["Content-Length"], want["Content-Disposition"] = "", "", ""
					if got.body != "" {
						t.Errorf("a body of %d bytes", len(got.body))
					}
				case 412:
					got.want(t, 412, "content does not match If-Match")
				case 416:
					got.want(t, 416, "range not satisfiable")
					want["Content-Range"] = fmt.Sprintf("bytes */%d", size)
				}
				have := map[string]string{}
				for key := range want {
					have[key] = got.header.Get(key)
				}
				if diff := cmp.Diff(want, have); diff != "" {
					t.Errorf("headers (-want +got):\n%s", diff)
				}
			})
		}
	})
}

func TestHeadOfContentIgnoresRangesAndHeedsTags(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	f := w.mustUpload(ws, token, part{name: "a.txt", content: "four"})[0]
	got := w.do("HEAD", f.path("content"), token, nil, "Range", "bytes=1-2")
	if got.status != 200 || got.header.Get("Content-Length") != "4" || got.header.Get("ETag") != etagOf("four") {
		t.Errorf("HEAD with a range: %d %v", got.status, got.header)
	}
	if got := w.do("HEAD", f.path("content"), token, nil, "If-None-Match", etagOf("four")); got.status != 304 {
		t.Errorf("HEAD with the tag: %d", got.status)
	}
}

func TestPreconditionsDoNotShowWhatIsNotTheCallersOrGone(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	a, tokenA := w.workspace("poll")
	b, tokenB := w.workspace("poll")
	f := w.mustUpload(a, tokenA, part{name: "a.txt", content: "secret"})[0]
	w.do("POST", f.path("ack"), tokenA, nil)
	foreign := strings.Replace(f.path("content"), a.String(), b.String(), 1)
	for _, headers := range [][]string{
		{"If-None-Match", etagOf("secret")}, {"If-None-Match", "*"}, {"If-Match", etagOf("other")}, {"Range", "bytes=99-"}, {"Range", "bytes=0-0"},
	} {
		w.do("GET", foreign, tokenB, nil, headers...).want(t, 404, "pending upload not found")
		w.do("GET", f.path("content"), tokenA, nil, headers...).want(t, 404, "pending upload not found, expired, or already acked")
	}
}

func TestContentWithoutADigestHasNoTag(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	f := w.mustUpload(ws, token, part{name: "a.txt", content: "hello"})[0]
	w.exec(`UPDATE pending_uploads SET sha256 = NULL`)
	got := w.do("GET", f.path("content"), token, nil)
	if got.status != 200 || got.body != "hello" || got.header.Get("ETag") != "" || got.header.Get("Repr-Digest") != "" {
		t.Errorf("%d %q %v", got.status, got.body, got.header)
	}
	for _, tc := range []struct {
		headers []string
		status  int
	}{
		{[]string{"Range", "bytes=1-2"}, 206},
		{[]string{"Range", "bytes=1-2", "If-Range", etagOf("hello")}, 200},
		{[]string{"Range", "bytes=1-2", "If-Range", ""}, 200},
		{[]string{"If-None-Match", etagOf("hello")}, 200},
		{[]string{"If-None-Match", "*"}, 304},
		{[]string{"If-Match", etagOf("hello")}, 412},
		{[]string{"If-Match", "*"}, 200},
	} {
		if got := w.do("GET", f.path("content"), token, nil, tc.headers...); got.status != tc.status {
			t.Errorf("%v: %d, want %d", tc.headers, got.status, tc.status)
		}
	}
}

func TestFetchIsStampedWithTheLastByte(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	f := w.mustUpload(ws, token, part{name: "a.txt", content: "0123456789"})[0]
	for _, headers := range [][]string{
		{"Range", "bytes=0-4"}, {"Range", "bytes=0-8"}, {"Range", "bytes=10-"}, {"If-None-Match", "*"}, {"If-Match", `"x"`},
		// Looks at the end.
		{"Range", "bytes=-1"}, {"Range", "bytes=-9"}, {"Range", "bytes=9-9"}, {"Range", "bytes=1-9"}, {"Range", "bytes=1-99"},
	} {
		w.do("GET", f.path("content"), token, nil, headers...)
		if w.fetched() { // small replies reach the client after the stamp
			t.Fatalf("%v counts as a fetch", headers)
		}
	}
	for _, headers := range [][]string{
		nil, {"Range", "bytes=9-", "If-Range", etagOf("0123456789")}, {"Range", "bytes=1-"},
		{"Range", "bytes=0-"}, {"Range", "bytes=0-9"}, {"Range", "bytes=0-99"}, {"Range", "bytes=-10"}, {"Range", "bytes=-99"},
		{"Range", "bytes=-1", "If-Range", etagOf("other")},
	} {
		w.unstamp()
		got := w.do("GET", f.path("content"), token, nil, headers...)
		if !strings.HasSuffix(got.body, "9") || !w.fetched() {
			t.Errorf("%v: %d %q, counts as a fetch: %v", headers, got.status, got.body, w.fetched())
		}
	}
	if diff := cmp.Diff(map[string]int{"proxy": 9}, w.deliveries()); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
}

// spans is a list of the ranges that were asked of content.
type spans struct {
	mu  sync.Mutex
	all []storage.Range
}

// opening notes what is opened; the first n openings yield a body that breaks
// after two bytes.
func (s *spans) opening(rec storage.Record, n int) storage.Record {
	whole, broken := rec.Content.Opener, failsAfter(2, rec).Content.Opener
	rec.Content.Opener = func(ctx context.Context, r storage.Range) (io.ReadCloser, error) {
		s.mu.Lock()
		s.all = append(s.all, r)
		fails := len(s.all) <= n
		s.mu.Unlock()
		if fails {
			return broken(ctx, r)
		}
		return whole(ctx, r)
	}
	return rec
}

func TestOnlyTheRangeIsReadAndOpenedAgainBeforeItFails(t *testing.T) {
	t.Parallel()
	f, asked := &faulty{}, &spans{}
	w := newServer(t, wrapped(f))
	ws, token := w.workspace("poll")
	content := pattern(2 << 20)
	file := w.mustUpload(ws, token, part{name: "a", content: content})[0]
	f.get = func(ctx context.Context, ws storage.WorkspaceID, id storage.FileID) (storage.Record, error) {
		rec, err := f.Storage.Get(ctx, ws, id)
		return asked.opening(rec, 1), err
	}
	got := w.do("GET", file.path("content"), token, nil, "Range", "bytes=1000000-1099999")
	if got.status != 206 || got.body != content[1000000:1100000] {
		t.Fatalf("%d, %d bytes", got.status, len(got.body))
	}
	span := storage.Range{Offset: 1000000, Length: 100000}
	if diff := cmp.Diff([]storage.Range{span, span}, asked.all); diff != "" {
		t.Errorf("opened (-want +got):\n%s", diff)
	}

	// What sends no bytes opens nothing.
	w.do("HEAD", file.path("content"), token, nil)
	w.do("GET", file.path("content"), token, nil, "If-None-Match", "*")
	w.do("GET", file.path("content"), token, nil, "If-Match", `"x"`)
	w.do("GET", file.path("content"), token, nil, "Range", "bytes=99999999-")
	if n := len(asked.all); n != 2 {
		t.Errorf("%d openings, want 2", n)
	}
}

func TestARangeThatBreaksAfterTheHeadersIsNoWholeBody(t *testing.T) {
	t.Parallel()
	f := &faulty{}
	w := newServer(t, wrapped(f))
	ws, token := w.workspace("poll")
	file := w.mustUpload(ws, token, part{name: "a", content: pattern(1 << 20)})[0]
	f.get = func(ctx context.Context, ws storage.WorkspaceID, id storage.FileID) (storage.Record, error) {
		rec, err := f.Storage.Get(ctx, ws, id)
		return failsAfter(300<<10, rec), err
	}
	got, err := w.try("GET", file.path("content"), token, nil, "Range", "bytes=100-")
	if err == nil || got.status != 206 || len(got.body) > 300<<10 {
		t.Errorf("status %d, %d bytes, error %v; want a broken transfer", got.status, len(got.body), err)
	}
	if w.fetched() {
		t.Error("a broken transfer counts as a fetch")
	}
}

func TestResumedByRangeTheFileIsWhole(t *testing.T) {
	t.Parallel()
	eachPlacement(t, func(t *testing.T, placement func(*testing.T) func(*handlers.Config)) {
		w := newServer(t, placement(t))
		ws, token := w.workspace("poll")
		content := pattern(1<<20 + 3)
		f := w.mustUpload(ws, token, part{name: "a", content: content})[0]
		first := w.do("HEAD", f.path("content"), token, nil)
		var got strings.Builder
		for got.Len() < len(content) {
			next := w.do("GET", f.path("content"), token, nil,
				"Range", fmt.Sprintf("bytes=%d-%d", got.Len(), got.Len()+99_999), "If-Range", first.header.Get("ETag"))
			if next.status != http.StatusPartialContent {
				t.Fatalf("at %d: %d", got.Len(), next.status)
			}
			got.WriteString(next.body)
		}
		if got.String() != content {
			t.Errorf("%d bytes that differ from %d", got.Len(), len(content))
		}
	})
}
