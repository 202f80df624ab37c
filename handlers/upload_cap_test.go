package handlers_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/storage"
)

// small caps make bodies above them cheap.
func small() setup {
	return setup{limits: storage.Limits{MaxFileBytes: 1 << 20, MaxRequestBytes: 4 << 20}}
}

// writeThenRead sends a whole request over a bare connection before it looks at
// the answer, as simple clients do. Chunked sends the length with each piece
// instead of beforehand.
func (w *world) writeThenRead(path, token, contentType string, body []byte, chunked bool) reply {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\n", path, w.addr, token, contentType)
	if chunked {
		head += "Transfer-Encoding: chunked\r\n\r\n"
	} else {
		head += fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body))
	}
	if _, err := io.WriteString(conn, head); err != nil {
		w.t.Fatal(err)
	}
	if chunked {
		for len(body) > 0 {
			n := min(len(body), 64<<10)
			if _, err := fmt.Fprintf(conn, "%x\r\n%s\r\n", n, body[:n]); err != nil {
				w.t.Fatalf("write: %v", err)
			}
			body = body[n:]
		}
		_, err = io.WriteString(conn, "0\r\n\r\n")
	} else {
		_, err = conn.Write(body)
	}
	if err != nil {
		w.t.Fatalf("write: %v", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		w.t.Fatalf("read the answer: %v", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(text)}
}

func TestBodyAboveTheRequestCapGetsAReadable413(t *testing.T) {
	t.Parallel()
	w := newServerWith(t, small())
	ws, token := w.workspace("poll")
	var parts []part
	for i := range 20 { // 16 MiB, each file below its cap
		parts = append(parts, part{name: fmt.Sprintf("%d.bin", i), content: strings.Repeat("x", 800<<10)})
	}
	body, contentType := multipartBody(t, parts...)
	for _, chunked := range []bool{false, true} {
		got := w.writeThenRead(uploadPath(ws), token, contentType, body, chunked)
		got.want(t, 413, "request exceeds cap")
		if got.body != `{"error":"request exceeds cap","max":4194304}` {
			t.Errorf("chunked %v: body is %s", chunked, got.body)
		}
	}
	w.wantNothingStaged()
}

func TestFileAboveItsCapGetsA413WithItsNameAndSize(t *testing.T) {
	t.Parallel()
	w := newServerWith(t, small())
	ws, token := w.workspace("poll")
	ok := part{name: "ok.txt", content: "x"}
	for _, tc := range []struct {
		extra int // bytes above the cap
		size  int
	}{
		{1, 1<<20 + 1},
		{2 << 20, 3 << 20},
	} {
		for _, chunked := range []bool{false, true} {
			body, contentType := multipartBody(t, ok, part{name: "too big.bin", content: strings.Repeat("x", 1<<20+tc.extra)}, ok)
			got := w.writeThenRead(uploadPath(ws), token, contentType, body, chunked)
			want := fmt.Sprintf(`{"error":"file exceeds per-file cap","filename":"too big.bin","size":%d,"max":1048576}`, tc.size)
			if got.status != 413 || got.body != want {
				t.Errorf("got %d %s, want %s", got.status, got.body, want)
			}
		}
	}
	if len(w.log.lines("upload above per-file cap")) != 4 {
		t.Error("files above the cap are not on record")
	}
	w.wantNothingStaged()
	exact := w.mustUpload(ws, token, part{name: "exact.bin", content: strings.Repeat("x", 1<<20)})
	if exact[0].Size != 1<<20 {
		t.Errorf("a file of exactly the cap: %+v", exact)
	}
}

func TestSenderThatWaitsFor100ContinueIsToldAtOnce(t *testing.T) {
	t.Parallel()
	w := newServerWith(t, small())
	ws, token := w.workspace("poll")
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: 100000000\r\nExpect: 100-continue\r\n\r\n",
		uploadPath(ws), w.addr, token, rawType)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 413 {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestClientGoneInTheMiddleLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	body, contentType := multipartBody(t,
		part{name: "small.txt", content: "x"},
		part{name: "big.bin", content: strings.Repeat("x", 12<<20)}, // several parts of an S3 multipart upload
	)
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n",
		uploadPath(ws), w.addr, token, contentType, len(body))
	if _, err := conn.Write(body[:len(body)-1000]); err != nil {
		t.Fatal(err)
	}
	// The first file is an object by now, so there is something to leave behind.
	eventually(t, "the first file is in the bucket", func() bool { return len(w.objectKeys()) > 0 })
	conn.Close()
	eventually(t, "the request ended", func() bool { return len(w.log.lines("upload not parseable")) == 1 })
	eventually(t, "the bucket is empty", func() bool { return len(w.objectKeys()) == 0 })
	w.wantNothingStaged()
}

func TestFailingBodyIsNoFileAtAll(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	body, contentType := multipartBody(t, part{name: "a.txt", content: strings.Repeat("x", 100_000)})
	broken := io.MultiReader(bytes.NewReader(body[:50_000]), failing{errors.New("disk error of the client")})
	if got, err := w.try("POST", uploadPath(ws), token, broken, "Content-Type", contentType); err == nil && got.status == 200 {
		t.Errorf("got %d %s", got.status, got.body)
	}
	eventually(t, "the request ended", func() bool { return len(w.log.lines("upload not parseable")) == 1 })
	w.wantNothingStaged()
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
