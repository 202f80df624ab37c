package handlers

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

const (
	// feedReaders is how many streams read the feed at the same time, so that a
	// burst leaves connections to the database for everybody else.
	feedReaders = 8

	// streamPageRows and streamPageBytes bound what a stream has read and not yet
	// written. A single entry may be larger.
	streamPageRows  = 100
	streamPageBytes = 256 << 10

	// streamPieceBytes is what a client must take within Timeouts.Window.
	streamPieceBytes = 32 << 10

	// streamPatience is how long a stream goes on without being able to read.
	streamPatience = time.Minute
)

// The states of a stream. One goroutine at a time works on it, and none while it
// is idle: thousands of idle streams are little more than their connections.
const (
	streamIdle  int32 = iota
	streamBusy        // a goroutine works on it
	streamAgain       // and was woken meanwhile
)

// feedStream is one client that follows a feed. It is a metadata.Waiter.
type feedStream struct {
	server *Server
	ctx    context.Context // ends with the stream
	cancel context.CancelFunc
	conn   streamConn
	raw    syscall.RawConn // of conn; nil where it has none
	ws     storage.WorkspaceID
	query  metadata.Query // its AfterSeq is position
	base   string         // address of the service, where rows name it
	sub    *metadata.Subscription
	state  atomic.Int32
	slot   int // of server.streams

	mu    sync.Mutex
	ended bool

	// These belong to whoever made the state busy.
	position int64 // seq of the entry sent last, or of one before the next to send
	head     int64 // of the feed, when it was looked at last
	failing  time.Time
	retry    *backoff.ExponentialBackOff // nil unless failing
}

// newFeedStream subscribes; end unsubscribes. The stream is busy until serve lets
// go of it.
func (s *Server) newFeedStream(r *http.Request, ws storage.WorkspaceID, q metadata.Query) *feedStream {
	st := &feedStream{server: s, ws: ws, query: q}
	st.query.AfterSeq, st.query.After, st.query.Since = &st.position, nil, 0
	st.query.Limit, st.query.Bytes = streamPageRows, streamPageBytes
	if q.PeerInfo {
		st.base = s.baseURL(r)
	}
	// The request's context ends when its connection is handed over.
	st.ctx, st.cancel = context.WithCancel(context.WithoutCancel(r.Context()))
	st.state.Store(streamBusy)
	c, _ := callerOf(r)
	st.sub = s.cfg.Watch.Subscribe(ws, c.token.ID, st)
	return st
}

// Wake implements metadata.Waiter.
func (st *feedStream) Wake() {
	for {
		switch {
		case st.state.CompareAndSwap(streamIdle, streamBusy):
			go st.work(st.deliver)
			return
		case st.state.CompareAndSwap(streamBusy, streamAgain), st.state.Load() == streamAgain:
			return
		}
	}
}

// End implements metadata.Waiter.
func (st *feedStream) End() { go st.end() }

// beat sends a sign of life unless there is other work. It does not block.
func (st *feedStream) beat(p *pinger) {
	if !st.state.CompareAndSwap(streamIdle, streamBusy) {
		return
	}
	rest := pingComment
	if st.raw != nil {
		n, err := p.ping(st.raw)
		if err != nil {
			go st.end()
			return
		}
		rest = rest[n:]
	}
	switch {
	case len(rest) > 0: // has to wait for the client, as all writes do
		st.finish(rest)
	case !st.rest():
		go st.work(st.deliver)
	}
}

// finish writes what is left of a sign of life.
func (st *feedStream) finish(rest []byte) {
	go st.work(func() bool { return st.write(rest) })
}

// work takes a step, then delivers as long as it is woken meanwhile. A step that
// fails ends the stream.
func (st *feedStream) work(step func() bool) {
	defer st.recoverPanic()
	for step() {
		if st.rest() {
			return
		}
		step = st.deliver
	}
	st.end()
}

// rest makes the stream idle, unless it was woken.
func (st *feedStream) rest() bool {
	if st.state.CompareAndSwap(streamBusy, streamIdle) {
		return true
	}
	st.state.Store(streamBusy)
	return false
}

func (st *feedStream) recoverPanic() {
	if v := recover(); v != nil {
		st.server.log.LogAttrs(st.ctx, slog.LevelError, "panic in feed stream",
			slog.String("workspace_id", st.ws.String()), slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
		st.end()
	}
}

// open gives the stream its connection and registers it. False: it has ended.
func (st *feedStream) open(conn streamConn) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ended || !st.server.streams.add(st) {
		return false
	}
	st.conn = conn
	return true
}

// end closes the stream. Doing it twice is fine.
func (st *feedStream) end() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ended {
		return
	}
	st.ended = true
	st.cancel()
	st.sub.Close()
	if st.conn != nil {
		st.server.streams.remove(st)
		_ = st.conn.Close() // whatever it says, we are done with it
	}
}

// deliver sends all that the feed holds after the position. False ends the
// stream.
func (st *feedStream) deliver() bool {
	for {
		entries, head, err := st.read()
		switch {
		case st.ctx.Err() != nil:
			return false
		case errors.Is(err, metadata.ErrCursorNotFound):
			st.server.log.LogAttrs(st.ctx, slog.LevelWarn, "feed stream ended: entries it had not sent are pruned",
				slog.String("workspace_id", st.ws.String()), slog.Int64("position", st.position))
			return false
		case err != nil:
			return st.postpone(err)
		}
		st.failing, st.retry, st.head = time.Time{}, nil, head
		if !st.sendEntries(entries) {
			return false
		}
		// Where other entries follow the page's last one, they may be next, or of no
		// interest: the next page tells.
		if len(entries) > 0 && st.position < head {
			continue
		}
		st.position = max(st.position, head)
		st.sub.Advance(st.position)
		return true
	}
}

func (st *feedStream) read() ([]metadata.Entry, int64, error) {
	if err := st.server.feedReads.Acquire(st.ctx, 1); err != nil {
		return nil, 0, err
	}
	defer st.server.feedReads.Release(1)
	ctx, cancel := context.WithTimeout(st.ctx, lookupTimeout)
	defer cancel()
	return st.server.cfg.Activity.PageHead(ctx, st.ws, st.query)
}

// postpone has the feed read again later. After streamPatience it gives up: the
// client may find a replica that can read.
func (st *feedStream) postpone(err error) bool {
	now := time.Now()
	if st.retry == nil {
		st.failing = now
		st.retry = &backoff.ExponentialBackOff{InitialInterval: 250 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 10 * time.Second}
		st.server.log.LogAttrs(st.ctx, slog.LevelDebug, "feed stream cannot read",
			slog.String("workspace_id", st.ws.String()), slog.Any("error", err))
	}
	if now.Sub(st.failing) > streamPatience {
		st.server.log.LogAttrs(st.ctx, slog.LevelWarn, "feed stream ended: the feed cannot be read",
			slog.String("workspace_id", st.ws.String()), slog.Any("error", err))
		return false
	}
	time.AfterFunc(st.retry.NextBackOff(), st.Wake)
	return true
}

// sendEntries writes entries, several at a time while they are small.
func (st *feedStream) sendEntries(entries []metadata.Entry) bool {
	var events []byte
	for i, e := range entries {
		events = append(events, "id: "...)
		events = append(events, e.ID.String()...)
		events = append(events, "\nevent: activity\ndata: "...)
		events = append(events, mustCompact(feedRow(e, st.query, st.base))...)
		events = append(events, "\n\n"...)
		if len(events) < streamPieceBytes/2 && i < len(entries)-1 {
			continue
		}
		if !st.write(events) {
			return false
		}
		st.position = e.Seq
		events = events[:0]
	}
	return true
}

var pingComment = []byte(": ping\n\n")

// write gives the client Timeouts.Window for each piece. False: it is gone, or
// too slow.
func (st *feedStream) write(p []byte) bool {
	for len(p) > 0 {
		piece := p[:min(len(p), streamPieceBytes)]
		err := st.conn.SetWriteDeadline(time.Now().Add(st.server.cfg.Timeouts.Window))
		if err == nil {
			_, err = st.conn.Write(piece)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			st.server.feed.slow.Inc()
			st.server.log.LogAttrs(st.ctx, slog.LevelInfo, "feed stream ended: the client is too slow",
				slog.String("workspace_id", st.ws.String()), slog.Int64("position", st.position))
		}
		if err != nil {
			return false
		}
		p = p[len(piece):]
	}
	return true
}
