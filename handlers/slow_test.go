package handlers_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/handlers"
)

// brisk makes windows short enough to wait for.
func brisk(cfg *handlers.Config) {
	cfg.Timeouts = handlers.Timeouts{Window: time.Second, WindowBytes: 4 << 10, Body: time.Second}
}

// dialRequest sends a request's header and returns the connection.
func (w *world) dialRequest(format string, args ...any) net.Conn {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := fmt.Fprintf(conn, format, args...); err != nil {
		w.t.Fatal(err)
	}
	return conn
}

// trickle writes body in pieces, one a tick, until done or until the other side
// hangs up.
func trickle(conn net.Conn, body []byte, piece int, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for len(body) > 0 {
		n := min(piece, len(body))
		if _, err := conn.Write(body[:n]); err != nil {
			return err
		}
		body = body[n:]
		<-tick.C
	}
	return nil
}

func TestSlowSenderIsCutOffAndASteadyOneIsNot(t *testing.T) {
	t.Parallel()
	w := newServer(t, brisk)
	ws, token := w.workspace("poll")
	body, contentType := multipartBody(t, part{name: "a.bin", content: strings.Repeat("x", 128<<10)})
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n",
		uploadPath(ws), w.addr, token, contentType, len(body))

	t.Run("trickling", func(t *testing.T) {
		conn := w.dialRequest("%s", head)
		done := make(chan error, 1)
		go func() { done <- trickle(conn, body, 10, 20*time.Millisecond) }() // 0.5 KiB a second
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestTimeout {
			t.Errorf("status %d", resp.StatusCode)
		}
		_ = conn.Close()
		if err := <-done; err == nil {
			t.Error("the sender came to its end")
		}
		w.wantNothingStaged()
	})
	t.Run("steady", func(t *testing.T) {
		conn := w.dialRequest("%s", head)
		if err := trickle(conn, body, 2<<10, 50*time.Millisecond); err != nil { // 40 KiB a second, over several windows
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("status %d", resp.StatusCode)
		}
	})
}

func TestSlowReaderIsCutOffAndASteadyOneIsNot(t *testing.T) {
	t.Parallel()
	w := newServer(t, brisk)
	ws, token := w.workspace("poll")
	const size = 16 << 20 // more than the kernel buffers
	f := w.mustUpload(ws, token, part{name: "a.bin", content: strings.Repeat("x", size)})[0]
	head := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n", f.path("content"), w.addr, token)

	t.Run("stalled", func(t *testing.T) {
		w.dialRequest("%s", head) // and never read
		eventually(t, "the reader is cut off", func() bool { return len(w.log.lines("fetch broken off by client")) == 1 })
	})
	t.Run("steady", func(t *testing.T) {
		conn := w.dialRequest("%s", head)
		resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 16), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		total := int64(0)
		for total < size {
			n, err := io.CopyN(io.Discard, resp.Body, min(256<<10, size-total)) // 5 MiB a second: 3 s
			total += n
			if err != nil {
				t.Fatalf("after %d bytes: %v", total, err)
			}
			<-tick.C
		}
	})
}

func TestOrdinaryBodyHasItsTimeAlone(t *testing.T) {
	t.Parallel()
	w := newServer(t, brisk)
	ws, token := w.workspace("poll")
	conn := w.dialRequest("POST /workspaces/%s/activity/ack HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: 100\r\n\r\n{", ws, w.addr, token)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestTimeout {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestDeadlinesOfOneRequestDoNotReachTheNext(t *testing.T) {
	t.Parallel()
	w := newServer(t, brisk)
	ws, token := w.workspace("poll")
	conn := w.dialRequest("")
	in := bufio.NewReader(conn)
	tick := time.NewTicker(1500 * time.Millisecond) // longer than every deadline
	defer tick.Stop()
	for i := range 3 {
		if _, err := fmt.Fprintf(conn, "POST /workspaces/%s/activity/ack HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: 15\r\n\r\n{\"acked_seq\":0}", ws, w.addr, token); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("request %d of the connection: %v", i, err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 || string(b) != `{"last_acked_seq":0}` {
			t.Fatalf("request %d: %d %s %v", i, resp.StatusCode, b, err)
		}
		<-tick.C
	}
}
