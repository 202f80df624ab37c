package metadata

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/storage"
)

// DefaultFeedPoll is the time between two rounds of a FeedWatch. What goes by
// rounds alone is noticed within five seconds, the statements included.
const DefaultFeedPoll = 4 * time.Second

// Waiter waits for a feed to grow. Both methods are called from any goroutine,
// several times perhaps, with locks held: they must not block and not call the
// FeedWatch.
type Waiter interface {
	// Wake says that the feed may have grown since the waiter read it. Calls may
	// be spurious.
	Wake()

	// End says that the waiter has lost its right to wait: its token is revoked,
	// or its workspace removed.
	End()
}

// FeedWatchConfig configures a FeedWatch.
type FeedWatchConfig struct {
	// DB is asked once a round.
	DB DB

	// Listen, where set, makes the connection that notifications come through. It
	// must be one to PostgreSQL itself or through a pooler in session mode. Without
	// it, writes of other processes are noticed by the rounds alone.
	Listen func(ctx context.Context) (*pgx.Conn, error)

	// Poll is the time between two rounds; DefaultFeedPoll when not positive.
	Poll time.Duration

	// Logger is told when notifications stop and come again; none when nil.
	Logger *slog.Logger
}

// FeedWatch wakes those who wait for a feed, however many there are, with one
// connection and one small statement every few seconds.
//
// It learns of entries in three ways: from the writers of this process, as their
// Publisher; by notifications, which every replica's writers send as part of
// their transactions; and from a round that compares the heads of the watched
// feeds with what their waiters have read. The round alone is enough; the other
// two make it fast. So a lost notification costs a delay, never an entry.
//
// The round also ends waiters whose token or workspace is no longer live,
// whoever revoked or removed it.
type FeedWatch struct {
	cfg  FeedWatchConfig
	log  *slog.Logger
	kick chan struct{} // has the next round come at once

	listening atomic.Bool

	tokens, workspaces list // of the round under way

	mu    sync.RWMutex
	feeds map[storage.WorkspaceID][]*Subscription
}

var _ Publisher = (*FeedWatch)(nil)

// NewFeedWatch fills in the defaults. It does no I/O; Run does.
func NewFeedWatch(cfg FeedWatchConfig) *FeedWatch {
	if cfg.Poll <= 0 {
		cfg.Poll = DefaultFeedPoll
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &FeedWatch{
		cfg: cfg, log: cfg.Logger, kick: make(chan struct{}, 1),
		feeds: make(map[storage.WorkspaceID][]*Subscription),
	}
}

// Subscription is one waiter's place in a FeedWatch.
type Subscription struct {
	watch  *FeedWatch
	ws     storage.WorkspaceID
	token  uuid.UUID // zero: none
	waiter Waiter
	read   atomic.Int64 // the head up to which the waiter has read
	index  int          // in watch.feeds[ws], under its lock; -1 once closed
}

// unread is the read mark of a waiter that is about to read for the first time,
// whom a round has nothing to tell.
const unread = math.MaxInt64

// Subscribe starts to wake w for the feed of ws. A waiter that subscribes, then
// reads, then waits misses nothing. token is the id of the token whose
// revocation ends it; the zero id is nobody's, and then only removal of the
// workspace does.
func (fw *FeedWatch) Subscribe(ws storage.WorkspaceID, token uuid.UUID, w Waiter) *Subscription {
	s := &Subscription{watch: fw, ws: ws, token: token, waiter: w}
	s.read.Store(unread)
	fw.mu.Lock()
	defer fw.mu.Unlock()
	s.index = len(fw.feeds[ws])
	fw.feeds[ws] = append(fw.feeds[ws], s)
	return s
}

// Advance notes that the waiter has read the feed while its head was at this
// seq. From then on, rounds wake the waiter when the head is further.
func (s *Subscription) Advance(head int64) { s.read.Store(head) }

// Close ends the subscription. Calls of the waiter that are under way may still
// come. Doing it twice is fine.
func (s *Subscription) Close() {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	if s.index < 0 {
		return
	}
	list := s.watch.feeds[s.ws]
	last := list[len(list)-1]
	list[s.index], last.index = last, s.index
	list[len(list)-1] = nil
	list = list[:len(list)-1]
	s.index = -1
	if len(list) == 0 {
		delete(s.watch.feeds, s.ws)
		return
	}
	s.watch.feeds[s.ws] = list
}

// Publish wakes the waiters of the feeds that the entries are in.
func (fw *FeedWatch) Publish(entries []Entry) {
	var before storage.WorkspaceID
	for i, e := range entries {
		if i == 0 || e.WorkspaceID != before {
			fw.wake(e.WorkspaceID)
		}
		before = e.WorkspaceID
	}
}

func (fw *FeedWatch) wake(ws storage.WorkspaceID) {
	fw.mu.RLock()
	defer fw.mu.RUnlock()
	for _, s := range fw.feeds[ws] {
		s.waiter.Wake()
	}
}

// Check has the next round come at once: after something was revoked or
// removed, or may have been missed.
func (fw *FeedWatch) Check() {
	select {
	case fw.kick <- struct{}{}:
	default:
	}
}

// Listening reports whether notifications can arrive now.
func (fw *FeedWatch) Listening() bool { return fw.listening.Load() }

// Run listens and makes the rounds until ctx ends.
func (fw *FeedWatch) Run(ctx context.Context) {
	var listener sync.WaitGroup
	defer listener.Wait()
	if fw.cfg.Listen != nil {
		listener.Go(func() { fw.listen(ctx) })
	}
	fw.rounds(ctx)
}
