package staging

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// conditionsTime bounds the question whether the object store has conditional
	// writes. Without an answer uploads go on without the condition.
	conditionsTime = 5 * time.Second

	// conditionsPause is how long nobody asks again after that.
	conditionsPause = time.Minute
)

// conditions asks once whether the object store has conditional writes.
type conditions struct {
	from Conditions // nil: it has none
	now  func() time.Time
	log  *slog.Logger

	mu    sync.Mutex
	known bool
	there bool
	next  time.Time // when to ask again
}

// ask is false where nobody can tell. An answer is kept.
func (c *conditions) ask(ctx context.Context) bool {
	if c.from == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known || c.now().Before(c.next) {
		return c.there
	}
	ctx, cancel := context.WithTimeout(ctx, conditionsTime)
	defer cancel()
	there, err := c.from.ConditionalWrites(ctx)
	if err != nil {
		c.next = c.now().Add(conditionsPause)
		c.log.LogAttrs(ctx, slog.LevelWarn, "direct uploads go without If-None-Match: nobody can tell whether the object store knows it", slog.Any("error", err))
		return false
	}
	c.known, c.there = true, there
	return there
}
