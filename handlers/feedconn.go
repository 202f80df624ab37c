package handlers

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// streamConn is where a stream writes. Close may be called at any time, also
// during a Write, and does not wait for it.
type streamConn interface {
	Write(p []byte) (int, error)
	SetWriteDeadline(t time.Time) error
	Close() error
}

// streamGreeting sets how soon clients reconnect, in milliseconds.
var streamGreeting = []byte("retry: 2000\n\n")

// serve begins the reply and lets the stream go its way. Where the connection can
// be taken over from net/http, its buffers and its goroutine are given back, and
// serve returns at once; else when the stream ends.
func (st *feedStream) serve(w http.ResponseWriter, r *http.Request) error {
	conn, _, err := http.NewResponseController(w).Hijack()
	switch {
	case errors.Is(err, http.ErrNotSupported):
		st.serveReply(w, r)
		return nil
	case err != nil:
		st.end()
		return err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		st.raw, _ = tcp.SyscallConn() // an error means that it is closed already
	}
	if !st.open(conn) {
		st.end()
		_ = conn.Close() // nothing was promised on it
		return nil
	}
	go st.watchClient(conn)
	st.begin(append(responseHead(w.Header()), streamGreeting...))
	return nil
}

// begin sends the first bytes and what is in the feed already, and leaves the
// stream idle.
func (st *feedStream) begin(first []byte) {
	if !st.write(first) {
		st.end()
		return
	}
	if st.position == st.head {
		st.sub.Advance(st.head)
		if st.rest() {
			return
		}
	}
	go st.work(st.deliver)
}

// responseHead is the reply up to its body, which the connection's end delimits.
func responseHead(h http.Header) []byte {
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	h.Set("Connection", "close")
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 200 OK\r\n")
	_ = h.Write(&b) // a buffer takes everything
	b.WriteString("\r\n")
	return b.Bytes()
}

// watchClient ends the stream when the client leaves. What a client says after
// its request means nothing.
func (st *feedStream) watchClient(conn net.Conn) {
	defer st.end()
	var b [64]byte
	for {
		if _, err := conn.Read(b[:]); err != nil {
			return
		}
	}
}

// serveReply streams through net/http until the stream or the client ends.
func (st *feedStream) serveReply(w http.ResponseWriter, r *http.Request) {
	out := &replyConn{w: w, rc: http.NewResponseController(w)}
	if !st.open(out) {
		st.end()
	} else {
		w.WriteHeader(http.StatusOK)
		st.begin(streamGreeting)
	}
	select {
	case <-st.ctx.Done():
	case <-r.Context().Done():
	}
	st.end()
	out.mu.Lock() // for a write under way to finish: w is ours no longer
	out.closed.Store(true)
	out.mu.Unlock()
}

// replyConn is a reply as a streamConn.
type replyConn struct {
	w  http.ResponseWriter
	rc *http.ResponseController

	mu     sync.Mutex
	closed atomic.Bool
}

func (c *replyConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	n, err := c.w.Write(p)
	if err == nil {
		err = c.rc.Flush()
	}
	return n, err
}

func (c *replyConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		return net.ErrClosed
	}
	if err := c.rc.SetWriteDeadline(t); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

func (c *replyConn) Close() error {
	c.closed.Store(true)
	return nil
}
