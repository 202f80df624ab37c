package inbox

import (
	"context"
	"fmt"

	"golang.org/x/sync/semaphore"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
)

// Bounds on what is read of the feed before its turn comes.
const (
	aheadRows  = 256
	aheadBytes = 32 << 20 // of bodies
)

// entry is a row on its way from the feed to its turn, or what else came.
type entry struct {
	row    wire.Activity
	number int64 // counts the rows as they came, from 1
	old    bool  // it was worked through before the feed began again
	weight int64

	reset bool  // instead of a row: the feed begins again
	err   error // instead of a row: the feed ended
}

// ahead is what was read of the feed and has not had its turn: a message takes its
// time, and the files announced behind it are fetched meanwhile.
type ahead struct {
	entries chan entry
	bytes   *semaphore.Weighted
}

func newAhead() *ahead {
	return &ahead{entries: make(chan entry, aheadRows), bytes: semaphore.NewWeighted(aheadBytes)}
}

// admit waits for room for a row.
func (a *ahead) admit(ctx context.Context, row wire.Activity) (weight int64, ok bool) {
	weight = min(int64(len(row.RequestBody)+len(row.ResponseBody)), aheadBytes)
	return weight, a.bytes.Acquire(ctx, weight) == nil
}

func (a *ahead) put(ctx context.Context, e entry) {
	select {
	case a.entries <- e:
	case <-ctx.Done():
	}
}

// read reads the feed to its end, and has files fetched as they are announced.
func (r *run) read(ctx context.Context, a *ahead) {
	defer close(a.entries)
	cfg := r.cfg.Follow
	reset, trouble := cfg.Reset, cfg.Trouble
	var seen mark
	r.journal.view(func(s *state) { cfg.After, seen = s.cursor, s.mark })
	cfg.Reset = func() {
		a.put(ctx, entry{reset: true})
		if reset != nil {
			reset()
		}
	}
	cfg.Trouble = func(err error) {
		if err != nil {
			r.troubles.report(ctx, "feed", fmt.Errorf("feed: %w", err))
		} else {
			r.troubles.solved(ctx, "feed")
		}
		if trouble != nil {
			trouble(err)
		}
	}
	var number int64
	for row, err := range r.cfg.Client.Follow(ctx, cfg) {
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			err = &FeedError{Err: err}
			if !client.Temporary(err) {
				r.fail(err) // whatever a message still takes
			}
			a.put(ctx, entry{err: err})
			return
		}
		weight, ok := a.admit(ctx, row)
		if !ok {
			return
		}
		number++
		e := entry{row: row, number: number, weight: weight, old: seen.covers(row.Seq, rowTime(row))}
		if !e.old {
			seen.pass(row.Seq, rowTime(row))
			if method(row) == wire.MethodChatUpload {
				r.announce(ctx, row, number)
			}
		}
		a.put(ctx, e)
	}
}
