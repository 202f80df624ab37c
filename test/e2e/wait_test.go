package e2e

import (
	"context"
	"testing"
	"time"
)

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// until waits for a condition; what says what it is waited for.
func until(t *testing.T, what string, met func() bool) {
	t.Helper()
	late := time.NewTimer(2 * time.Minute)
	defer late.Stop()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !met() {
		select {
		case <-look.C:
		case <-late.C:
			t.Fatalf("in vain: %s", what)
		}
	}
}
