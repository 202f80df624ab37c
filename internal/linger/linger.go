// Package linger lets what must not be broken off in the middle go on for a moment
// after its context has ended.
package linger

import (
	"context"
	"time"
)

// Context returns a context with ctx's values that ends the given time after ctx
// does. Call the function when done.
func Context(ctx context.Context, after time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(after)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-out.Done():
		}
	})
	return out, func() {
		stop()
		cancel()
	}
}
