package inbox

import (
	"context"
	"log/slog"
	"sync"
)

// troubles tells of each trouble once, and when all of them are over.
type troubles struct {
	tell func(error) // may be nil
	log  *slog.Logger

	mu   sync.Mutex // held while telling: one at a time
	open map[string]string
}

func newTroubles(tell func(error), log *slog.Logger) *troubles {
	return &troubles{tell: tell, log: log, open: map[string]string{}}
}

// report tells of err unless what key names is in that trouble already.
func (t *troubles) report(ctx context.Context, key string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := kind(err)
	if before, known := t.open[key]; known && before == k {
		t.log.LogAttrs(ctx, slog.LevelDebug, "still in trouble", slog.String("what", key), slog.Any("error", err))
		return
	}
	t.open[key] = k
	t.say(ctx, err)
}

// mention tells of an error that nothing is going to end.
func (t *troubles) mention(ctx context.Context, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.say(ctx, err)
}

func (t *troubles) say(ctx context.Context, err error) {
	t.log.LogAttrs(ctx, slog.LevelWarn, "trouble", slog.Any("error", err))
	if t.tell != nil {
		t.tell(err)
	}
}

// solved ends the trouble of key and reports whether there was one.
func (t *troubles) solved(ctx context.Context, key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, open := t.open[key]; !open {
		return false
	}
	delete(t.open, key)
	if len(t.open) == 0 {
		t.log.LogAttrs(ctx, slog.LevelInfo, "all is well again")
		if t.tell != nil {
			t.tell(nil)
		}
	}
	return true
}
