package client

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// newBackOff waits a quarter of a second, then ever longer up to ten, each time
// half as much more or less.
func newBackOff() *backoff.ExponentialBackOff {
	return &backoff.ExponentialBackOff{
		InitialInterval: 250 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 10 * time.Second,
	}
}

// retry repeats do while its error passes again, for as long as the client has
// patience. An answer's Retry-After is waited for.
func (c *Client) retry(ctx context.Context, what string, again func(error) bool, do func() error) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := do()
		if err != nil && (ctx.Err() != nil || c.cfg.Patience < 0 || !again(err)) {
			return struct{}{}, backoff.Permanent(err)
		}
		return struct{}{}, err
	},
		backoff.WithBackOff(newBackOff()), backoff.WithMaxElapsedTime(max(c.cfg.Patience, 0)),
		backoff.WithNotify(func(err error, wait time.Duration) {
			c.log.LogAttrs(ctx, slog.LevelInfo, "trying again", slog.String("call", what), slog.Duration("in", wait), slog.Any("error", err))
		}))
	return err
}

// wait waits, or returns the context's cause.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// watchedReader cancels a transfer that pauses for too long.
type watchedReader struct {
	r      io.Reader
	limit  time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

// watch reads r under a bound on pauses; cancel must end the transfer. Close the
// result when done.
func watch(r io.Reader, limit time.Duration, cancel context.CancelCauseFunc) *watchedReader {
	return &watchedReader{r: r, limit: limit, cancel: cancel, timer: time.AfterFunc(limit, func() { cancel(errSilent) })}
}

func (w *watchedReader) Read(p []byte) (int, error) {
	w.timer.Reset(w.limit)
	n, err := w.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		w.timer.Stop()
	}
	return n, err
}

// pause stops the clock while the reader's owner does something else.
func (w *watchedReader) pause() { w.timer.Stop() }
