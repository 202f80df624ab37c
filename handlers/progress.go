package handlers

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// Timeouts bound what a client can hold a connection for. Bodies of uploads
// and all replies follow a rule of progress instead of a total: in each Window
// that the server spends waiting for the client, at least WindowBytes must
// move. A stalled client is cut off, a slow and steady link is not.
type Timeouts struct {
	Header      time.Duration // to send the request's header; default 10 s
	Idle        time.Duration // between requests of a connection; default 2 min
	Body        time.Duration // to send the body of an ordinary JSON request; default 30 s
	Answer      time.Duration // to answer an ordinary request, its body included; default 60 s
	Window      time.Duration // default 10 s
	WindowBytes int           // default 32 KiB: 26 kbit/s in a window of 10 s
	Heartbeat   time.Duration // between two signs of life of a feed stream; default 15 s
	Open        time.Duration // to open content, retries included; default 10 s, as clients give up after 15 s (contract 7.3)
}

func (t Timeouts) withDefaults() Timeouts {
	for _, d := range []struct {
		field *time.Duration
		def   time.Duration
	}{
		{&t.Header, 10 * time.Second},
		{&t.Idle, 2 * time.Minute},
		{&t.Body, 30 * time.Second},
		{&t.Answer, time.Minute},
		{&t.Window, 10 * time.Second},
		{&t.Heartbeat, 15 * time.Second},
		{&t.Open, 10 * time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.def
		}
	}
	if t.WindowBytes <= 0 {
		t.WindowBytes = 32 << 10
	}
	return t
}

// pieceWindows is how many windows' bytes are written at once.
const pieceWindows = 8

// pace keeps the account of one direction. Only time spent waiting for the
// client counts: the server's own pauses are not the client's fault.
type pace struct {
	window time.Duration
	min    int
	spent  time.Duration // in the current window
	moved  int           // in the current window
}

// allowance is how long a transfer of n bytes may take: what is left of the
// window, and a further one for each further min bytes. Once a window has its
// bytes the next one's time is at hand as well.
func (p *pace) allowance(n int) time.Duration {
	left := p.window - p.spent
	if p.moved >= p.min {
		left += p.window
	}
	if n > p.min {
		left += p.window * time.Duration((n-1)/p.min)
	}
	return max(left, time.Millisecond)
}

// note books a transfer.
func (p *pace) note(n int, took time.Duration) {
	p.spent += took
	p.moved += n
	if p.spent < p.window || p.moved < p.min {
		return
	}
	p.spent = min(p.spent-p.window, p.window)
	p.moved = n
}

// slowReader applies the rule to a request's body.
type slowReader struct {
	body io.Reader
	rc   *http.ResponseController
	pace pace
}

func (s *Server) slowReader(w http.ResponseWriter, body io.Reader) *slowReader {
	return &slowReader{body, http.NewResponseController(w), s.pace()}
}

func (s *Server) pace() pace {
	return pace{window: s.cfg.Timeouts.Window, min: s.cfg.Timeouts.WindowBytes}
}

func (sr *slowReader) Read(p []byte) (int, error) {
	start := time.Now()
	// A read returns with what is there, so it has the time of one byte.
	if err := sr.rc.SetReadDeadline(start.Add(sr.pace.allowance(1))); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	n, err := sr.body.Read(p)
	sr.pace.note(n, time.Since(start))
	return n, err
}

// slowWriter applies the rule to a reply.
type slowWriter struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	pace pace
}

// slowGuard returns a writer to w that fails when the client takes too long to
// take what is written.
func (s *Server) slowGuard(w http.ResponseWriter, _ *http.Request) io.Writer {
	return &slowWriter{w, http.NewResponseController(w), s.pace()}
}

func (sw *slowWriter) Write(p []byte) (int, error) {
	total := 0
	for len(p) > 0 {
		// A write returns when all is taken. Large pieces save system calls; a
		// client that stalls in one is noticed after as many windows.
		piece := p[:min(len(p), pieceWindows*sw.pace.min)]
		start := time.Now()
		if err := sw.rc.SetWriteDeadline(start.Add(sw.pace.allowance(len(piece)))); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return total, err
		}
		n, err := sw.w.Write(piece)
		sw.pace.note(n, time.Since(start))
		total += n
		if err != nil {
			return total, err
		}
		p = p[n:]
	}
	return total, nil
}

// startBody clears what an earlier request left on the connection and gives an
// ordinary body its time. It returns a copy of the request: net/http looks at
// the type of the original's body to decide what to do with an unread rest.
func (s *Server) startBody(w http.ResponseWriter, r *http.Request) *http.Request {
	rc := http.NewResponseController(w)
	// Errors mean that the writer has no deadlines, or that the connection is
	// closed, which the first read or write reports.
	_ = rc.SetWriteDeadline(time.Time{})
	if r.Body == nil || r.Body == http.NoBody {
		return r
	}
	_ = rc.SetReadDeadline(time.Now().Add(s.cfg.Timeouts.Body))
	r = r.WithContext(r.Context())
	r.Body = &timedBody{r.Body, rc}
	return r
}

// timedBody lifts the read deadline at the body's end. net/http goes on reading
// the connection to notice a client that leaves, and would take a deadline that
// passes later for one.
type timedBody struct {
	io.ReadCloser
	rc *http.ResponseController
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}
