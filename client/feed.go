package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"mime"
	"net/http"
	"time"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
)

// Transport is how a feed is followed.
type Transport string

const (
	// TransportAuto streams, falls back to long polls where the service or a proxy
	// on the way does not let a stream through, and a long poll of a service that
	// cannot wait is a plain poll. The default.
	TransportAuto Transport = ""
	// TransportLongPoll holds one request until a row commits.
	TransportLongPoll Transport = "longpoll"
	// TransportPoll asks every Interval.
	TransportPoll Transport = "poll"
)

const (
	// DefaultWindow is how far back a feed without a cursor begins: as far as
	// uploads live where nothing else is configured.
	DefaultWindow = 24 * time.Hour
	// DefaultInterval is the time between two plain polls, that of the released
	// pollers (contract 7).
	DefaultInterval = 5 * time.Second
	// DefaultWait is how long one long poll waits: less than what proxies cut off.
	DefaultWait = 25 * time.Second

	// streamAgain is how long a feed that fell back keeps from streaming where the
	// stream is refused, and streamSoon where it breaks before it says anything.
	streamAgain, streamSoon = 10 * time.Minute, time.Minute
	// streamTries is how many streams in a row may break that way.
	streamTries = 2
	// longestWindow is how far back the feed can be read: since_secs' cap (contract
	// 2.5.1), and what the feed keeps at most (9.4).
	longestWindow = 30 * 24 * time.Hour
	// overlap is the least that a feed without a row asks back for, so that what
	// commits between two of its requests is not lost.
	overlap = 10 * time.Minute
)

// FollowConfig says what to follow, and from where.
type FollowConfig struct {
	Type      string        // activity_type; default a2a_receive; "*" is all
	After     string        // cursor: id of the last row consumed; empty: begin with the window
	Window    time.Duration // without a cursor: rows of this age at most come first; default DefaultWindow
	PeerInfo  bool          // names of the senders, and attachments
	Transport Transport     // default TransportAuto
	Interval  time.Duration // of plain polls; default DefaultInterval
	Wait      time.Duration // of long polls; default DefaultWait
	Once      bool          // end when there is nothing more, or after Config.Patience without an answer, instead of waiting

	// Reset, when set, is called when the service no longer knows the cursor: the
	// feed begins again with everything that it has, up to 30 days, and rows that
	// were consumed may come again.
	Reset func()
	// Trouble, when set, is called when the service cannot be reached or refuses
	// for now, and with nil when it answers again.
	Trouble func(error)
}

// Follow yields the rows of the feed in order, oldest first, and waits for more
// until ctx ends, the consumer breaks off, or the service refuses for good
// (ErrUnauthorized, ErrNotFound), which is the last thing it yields. Everything
// else is tried again, and where streams do not get through, polls take their
// place. A row is yielded again only after Reset; the cursor to keep
// is the id of the last row that the consumer is done with.
func (c *Client) Follow(ctx context.Context, cfg FollowConfig) iter.Seq2[wire.Activity, error] {
	return func(yield func(wire.Activity, error) bool) {
		f := &follower{c: c, cfg: cfg.withDefaults(), cursor: cfg.After, yield: yield}
		if err := f.run(ctx); err != nil && !errors.Is(err, errStopped) {
			yield(wire.Activity{}, err)
		}
	}
}

func (cfg FollowConfig) withDefaults() FollowConfig {
	switch cfg.Type {
	case "":
		cfg.Type = wire.TypeA2AReceive
	case "*":
		cfg.Type = ""
	}
	if cfg.Window <= 0 {
		cfg.Window = DefaultWindow
	}
	if cfg.Interval <= 0 {
		cfg.Interval = DefaultInterval
	}
	if cfg.Wait <= 0 {
		cfg.Wait = DefaultWait
	}
	return cfg
}

// errStopped is the end that the consumer wanted.
var errStopped = errors.New("the consumer stopped")

// errNoStream is a stream that broke before its first byte.
var errNoStream = errors.New("the stream says nothing")

// refusedStreamError is an answer that is no stream.
type refusedStreamError struct{ err error }

func (e *refusedStreamError) Error() string { return "no stream: " + e.err.Error() }
func (e *refusedStreamError) Unwrap() error { return e.err }

// follower is a feed being followed.
type follower struct {
	c      *Client
	cfg    FollowConfig
	yield  func(wire.Activity, error) bool
	cursor string

	noStreamUntil time.Time
	dead          int       // streams in a row that broke before they said anything
	early         int       // empty answers in a row that did not wait
	answered      time.Time // when the service was last there
	troubled      bool      // the consumer was told
}

func (f *follower) run(ctx context.Context) error {
	pause := newBackOff()
	f.answered = time.Now()
	for {
		before := f.cursor
		end, err := f.round(ctx)
		switch {
		case errors.Is(err, errStopped):
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, ErrCursorGone):
			f.reset(ctx)
			continue
		case err == nil && end:
			return nil
		case err == nil:
			f.isThere()
			pause.Reset()
			continue
		case !Temporary(err):
			return err
		case f.cfg.Once && time.Since(f.answered) >= f.c.cfg.Patience:
			return err
		}
		if f.cursor != before {
			pause.Reset()
		}
		f.trouble(err)
		f.c.log.LogAttrs(ctx, slog.LevelInfo, "feed interrupted", slog.Any("error", err))
		delay := pause.NextBackOff()
		if answer := new(Error); errors.As(err, &answer) {
			delay = max(delay, answer.RetryAfter)
		}
		if err := wait(ctx, delay); err != nil {
			return err
		}
	}
}

// isThere notes that the service answered.
func (f *follower) isThere() {
	f.answered = time.Now()
	f.trouble(nil)
}

func (f *follower) trouble(err error) {
	if f.cfg.Trouble != nil && (err != nil || f.troubled) {
		f.cfg.Trouble(err)
	}
	f.troubled = err != nil
}

func (f *follower) reset(ctx context.Context) {
	f.c.log.LogAttrs(ctx, slog.LevelWarn, "the service no longer knows the cursor, the feed begins again", slog.String("cursor", f.cursor))
	f.cursor, f.cfg.Window = "", longestWindow
	if f.cfg.Reset != nil {
		f.cfg.Reset()
	}
}

// round is one stream, or one poll. end: there is nothing more and nobody waits.
func (f *follower) round(ctx context.Context) (end bool, err error) {
	if f.cursor == "" {
		if n, err := f.begin(ctx, f.cfg.Window); err != nil || n > 0 {
			return false, err
		}
	}
	switch {
	case f.cfg.Once:
		if f.cursor == "" {
			return true, nil
		}
		n, err := f.page(ctx, 0)
		return n == 0, err
	case f.cfg.Transport == TransportAuto && time.Now().After(f.noStreamUntil):
		if err := f.stream(ctx); !f.fallsBack(ctx, err) {
			return false, err
		}
	case f.cfg.Transport == TransportPoll:
		return false, f.poll(ctx)
	}
	return false, f.longPoll(ctx)
}

// fallsBack reports that polls take the place of streams for a while: that one is
// refused says nothing about the rest of the service, and a proxy that keeps
// answers back, or cuts off what takes long, does so every time.
func (f *follower) fallsBack(ctx context.Context, err error) bool {
	var refused *refusedStreamError
	var unsent *unsentError
	switch {
	case errors.As(err, &refused):
		f.noStreamUntil = time.Now().Add(streamAgain)
	case !errors.Is(err, errNoStream), errors.As(err, &unsent), ctx.Err() != nil:
		return false
	default:
		if f.dead++; f.dead < streamTries {
			return false
		}
		f.noStreamUntil = time.Now().Add(streamSoon)
	}
	f.dead = 0
	f.c.log.LogAttrs(ctx, slog.LevelInfo, "no stream to be had, polling", slog.Any("error", err))
	return true
}

// begin delivers the oldest page of the window, and so finds a cursor.
func (f *follower) begin(ctx context.Context, window time.Duration) (int, error) {
	rows, err := f.c.oldest(ctx, f.query(window))
	if err != nil {
		return 0, err
	}
	f.isThere()
	return len(rows), f.deliver(rows)
}

func (f *follower) query(window time.Duration) Query {
	return Query{Type: f.cfg.Type, After: f.cursor, Since: window, Limit: maxPage, PeerInfo: f.cfg.PeerInfo}
}

// deliver yields rows and moves the cursor behind each.
func (f *follower) deliver(rows []wire.Activity) error {
	for _, row := range rows {
		if !f.yield(row, nil) {
			return errStopped
		}
		f.cursor = row.ID
	}
	return nil
}

// page is one poll, oldest first also where there is no cursor yet.
func (f *follower) page(ctx context.Context, wait time.Duration) (int, error) {
	q := f.query(min(f.cfg.Window, overlap))
	q.Wait = wait
	rows, err := f.c.Activity(ctx, q)
	if err != nil {
		return 0, err
	}
	f.isThere()
	if f.cursor == "" && len(rows) > 0 {
		return f.begin(ctx, min(f.cfg.Window, overlap)) // which of them is the oldest
	}
	return len(rows), f.deliver(rows)
}

func (f *follower) poll(ctx context.Context) error {
	if _, err := f.page(ctx, 0); err != nil {
		return err
	}
	return wait(ctx, f.cfg.Interval)
}

// longPoll is one request that waits. An empty answer that comes too early is
// that of a service which is stopping; a second one, of a service that cannot
// wait, and then it is asked every Interval.
func (f *follower) longPoll(ctx context.Context) error {
	begin := time.Now()
	n, err := f.page(ctx, f.cfg.Wait)
	switch {
	case err != nil:
		return err
	case n > 0 || time.Since(begin) >= min(f.cfg.Wait, f.cfg.Interval):
		f.early = 0
		return nil
	}
	if f.early++; f.early == 1 {
		return wait(ctx, newBackOff().NextBackOff())
	}
	return wait(ctx, f.cfg.Interval)
}

// stream follows one server-sent event stream to its end.
func (f *follower) stream(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	q := f.query(min(f.cfg.Window, overlap))
	q.Limit = 0
	r, err := f.c.request(ctx, http.MethodGet, f.c.workspacePath("/activity/stream"), q.values(), nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "text/event-stream")
	if f.cursor != "" {
		r.Header.Set("Last-Event-ID", f.cursor)
	}
	body := watch(nil, f.c.cfg.Silence, cancel)
	defer body.pause()
	response, err := f.c.http.Do(r)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoStream, sendError(ctx, err))
	}
	defer func() { _ = response.Body.Close() }()
	if err := isStream(response); err != nil {
		return err
	}
	body.r = response.Body
	said := false
	err = f.events(newEventReader(&firstByte{body, func() {
		said = true
		f.dead = 0
		f.isThere()
	}}), body)
	switch {
	case errors.Is(err, errStopped), parent.Err() != nil:
		return err
	case errors.Is(context.Cause(ctx), errSilent):
		err = errSilent
	case errors.Is(err, io.EOF):
		// The service closes streams when it stops; another replica may be there.
		err = io.ErrUnexpectedEOF
	}
	if !said {
		return fmt.Errorf("%w: %w", errNoStream, err)
	}
	return fmt.Errorf("read stream: %w", err)
}

// firstByte tells when the first byte has come.
type firstByte struct {
	r    io.Reader
	told func()
}

func (f *firstByte) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if n > 0 && f.told != nil {
		f.told()
		f.told = nil
	}
	return n, err
}

// isStream tells answers that are no stream. A cursor that is gone is gone for
// polls too.
func isStream(response *http.Response) error {
	if response.StatusCode == http.StatusOK {
		if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind != "text/event-stream" {
			return &refusedStreamError{fmt.Errorf("the answer is %q", kind)}
		}
		return nil
	}
	err := answerError(response)
	switch {
	case errors.Is(err, ErrCursorGone):
		return err
	case response.StatusCode >= http.StatusInternalServerError, response.StatusCode == http.StatusTooManyRequests:
		return fmt.Errorf("%w: %w", errNoStream, err)
	}
	return &refusedStreamError{err}
}

func (f *follower) events(r *eventReader, body *watchedReader) error {
	for {
		ev, err := r.next()
		if err != nil {
			return err
		}
		if ev.name != "activity" && ev.name != "" {
			continue
		}
		var row wire.Activity
		if err := json.Unmarshal(ev.data, &row); err != nil {
			return fmt.Errorf("row of event %q: %w", ev.id, err)
		}
		body.pause()
		if err := f.deliver([]wire.Activity{row}); err != nil {
			return err
		}
	}
}
