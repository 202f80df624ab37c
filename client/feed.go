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
	"slices"
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

	// streamAgain is how long a feed that fell back keeps from streaming.
	streamAgain = 10 * time.Minute
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
	Once      bool          // end when there is nothing more, instead of waiting

	// Reset, when set, is called when the service no longer knows the cursor: the
	// feed begins again with the window, and rows that were consumed may come again.
	Reset func()
	// Trouble, when set, is called when the service cannot be reached or refuses
	// for now, and with nil when it answers again.
	Trouble func(error)
}

// Follow yields the rows of the feed in order, oldest first, and waits for more
// until ctx ends, the consumer breaks off, or the service refuses for good
// (ErrUnauthorized, ErrNotFound), which is the last thing it yields. Everything
// else is tried again. A row is yielded again only after Reset; the cursor to keep
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

// errNoStream is a service, or a proxy before it, that does not stream.
var errNoStream = errors.New("no stream to be had")

// follower is a feed being followed.
type follower struct {
	c      *Client
	cfg    FollowConfig
	yield  func(wire.Activity, error) bool
	cursor string

	noStreamUntil time.Time
	silent        int  // streams in a row that went dead
	early         int  // empty answers in a row that did not wait
	troubled      bool // the consumer was told
}

func (f *follower) run(ctx context.Context) error {
	pause := newBackOff()
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
			f.trouble(nil)
			pause.Reset()
			continue
		case !Temporary(err):
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

func (f *follower) trouble(err error) {
	if f.cfg.Trouble != nil && (err != nil || f.troubled) {
		f.cfg.Trouble(err)
	}
	f.troubled = err != nil
}

func (f *follower) reset(ctx context.Context) {
	f.c.log.LogAttrs(ctx, slog.LevelWarn, "the service no longer knows the cursor, the feed begins again", slog.String("cursor", f.cursor))
	f.cursor = ""
	if f.cfg.Reset != nil {
		f.cfg.Reset()
	}
}

// round is one stream, or one poll. end: there is nothing more and nobody waits.
func (f *follower) round(ctx context.Context) (end bool, err error) {
	if f.cursor == "" {
		rows, err := f.c.history(ctx, f.query(f.cfg.Window))
		if err != nil {
			return false, err
		}
		if err := f.deliver(rows); err != nil || len(rows) > 0 {
			return false, err
		}
	}
	switch {
	case f.cfg.Once:
		if f.cursor == "" {
			return true, nil
		}
		rows, err := f.c.Activity(ctx, f.query(0))
		if err != nil {
			return false, err
		}
		return len(rows) == 0, f.deliver(rows)
	case f.cfg.Transport == TransportAuto && time.Now().After(f.noStreamUntil):
		err := f.stream(ctx)
		if errors.Is(err, errNoStream) {
			f.c.log.LogAttrs(ctx, slog.LevelInfo, "no stream to be had, polling", slog.Any("error", err))
			f.noStreamUntil, err = time.Now().Add(streamAgain), nil
		}
		return false, err
	case f.cfg.Transport == TransportPoll:
		return false, f.poll(ctx)
	}
	return false, f.longPoll(ctx)
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
	if f.cursor == "" {
		slices.Reverse(rows)
	}
	return len(rows), f.deliver(rows)
}

func (f *follower) poll(ctx context.Context) error {
	if _, err := f.page(ctx, 0); err != nil {
		return err
	}
	f.trouble(nil)
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
	f.trouble(nil)
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
		return sendError(ctx, err)
	}
	defer func() { _ = response.Body.Close() }()
	if err := isStream(response); err != nil {
		return err
	}
	f.trouble(nil)
	body.r = response.Body
	err = f.events(newEventReader(body), body)
	switch {
	case errors.Is(err, errStopped), parent.Err() != nil:
		return err
	case errors.Is(context.Cause(ctx), errSilent):
		// A proxy that keeps a stream back until it ends is silent every time.
		if f.silent++; f.silent >= 2 {
			f.silent = 0
			return fmt.Errorf("%w: %w", errNoStream, errSilent)
		}
		return fmt.Errorf("read stream: %w", errSilent)
	case errors.Is(err, io.EOF):
		// The service closes streams when it stops; another replica may be there.
		return fmt.Errorf("read stream: %w", io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("read stream: %w", err)
}

// isStream tells the services that do not know the route from those that refuse.
func isStream(response *http.Response) error {
	switch response.StatusCode {
	case http.StatusOK:
		if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind != "text/event-stream" {
			return fmt.Errorf("%w: the answer is %q", errNoStream, kind)
		}
		return nil
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented:
		return fmt.Errorf("%w: %w", errNoStream, answerError(response))
	}
	return answerError(response)
}

func (f *follower) events(r *eventReader, body *watchedReader) error {
	for {
		ev, err := r.next()
		if err != nil {
			return err
		}
		f.silent = 0
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
