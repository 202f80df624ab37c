package staging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/storage"
)

// openObject opens a span of an object and keeps asking for ReadPatience when
// the store fails. The reader does the same for a transfer that breaks.
func (s *Store) openObject(ctx context.Context, key string, span storage.Range) (io.ReadCloser, error) {
	r := &resumingReader{ctx: ctx, s: s, key: key, rest: span}
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

var (
	// errNoAnswer is the cause of an opening's end after ReadPatience.
	errNoAnswer = errors.New("object store does not answer")

	// errEndsEarly is an object that has fewer bytes than were asked of it, and not a
	// transfer that broke.
	errEndsEarly = errors.New("object ends early")
)

// resumingReader reads an object to its end although single transfers may
// break: it opens the rest again from where it stood.
type resumingReader struct {
	ctx  context.Context
	s    *Store
	key  string
	rest storage.Range
	cur  io.ReadCloser
	stop context.CancelCauseFunc // ends the transfer of cur
}

func (r *resumingReader) open(parent context.Context) error {
	// The transfer goes on under the context that it was opened with, so that
	// gets no deadline but is cancelled unless the opening succeeds in time.
	ctx, stop := context.WithCancelCause(parent)
	patience := time.AfterFunc(r.s.readPatience, func() { stop(errNoAnswer) })
	var last error // what the store said, where it said anything in time
	attempt := func() (io.ReadCloser, error) {
		rc, err := r.s.objects.Open(ctx, r.key, r.rest.Offset, r.rest.Length)
		if err != nil && ctx.Err() == nil {
			last = err
		}
		if errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrRange) {
			return nil, backoff.Permanent(err)
		}
		return rc, err
	}
	rc, err := backoff.Retry(ctx, attempt,
		backoff.WithBackOff(&backoff.ExponentialBackOff{
			InitialInterval: 100 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: 2 * time.Second,
		}),
		backoff.WithMaxElapsedTime(r.s.readPatience))
	if !patience.Stop() && err == nil {
		_ = rc.Close()
		err = errNoAnswer
	}
	if errors.Is(err, errNoAnswer) && last != nil {
		err = fmt.Errorf("%w: %w", err, last)
	}
	if err != nil {
		stop(err)
		return fmt.Errorf("open object %s at %d: %w", r.key, r.rest.Offset, err)
	}
	r.cur, r.stop = rc, stop
	return nil
}

func (r *resumingReader) Read(p []byte) (int, error) {
	if r.rest.Length == 0 {
		return 0, io.EOF
	}
	for fresh := false; ; fresh = true {
		n, err := r.cur.Read(p[:min(int64(len(p)), r.rest.Length)])
		r.rest.Offset += int64(n)
		r.rest.Length -= int64(n)
		switch {
		case n > 0 || err == nil:
			// A failure that came with bytes comes again on the next read.
			return n, nil
		case r.ctx.Err() != nil:
			return 0, context.Cause(r.ctx)
		case fresh:
			return 0, fmt.Errorf("read object %s at %d: %w", r.key, r.rest.Offset, early(err))
		}
		_ = r.Close()
		if err := r.open(r.ctx); err != nil {
			return 0, err
		}
	}
}

func (r *resumingReader) Close() error {
	err := r.cur.Close()
	r.stop(context.Canceled)
	return err
}

// early keeps a premature end from passing for the real one. Transfers that break
// end in other errors than io.EOF.
func early(err error) error {
	if errors.Is(err, io.EOF) {
		return errEndsEarly
	}
	return err
}
