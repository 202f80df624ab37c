package s3blob

import (
	"context"
	"time"
)

const (
	// lingerTime is how long a call that makes something in the store may go on
	// after its context ended. Broken off in the middle it could still take
	// effect after the clean-up that follows (a part that arrives after its upload
	// was aborted revives it on some stores); its answer says that it is over.
	lingerTime = 5 * time.Second

	// cleanupTimeout bounds the clean-up after a failed Put, retries included.
	cleanupTimeout = 30 * time.Second
)

// cleaning returns a context for a clean-up, which must run whether ctx ended or
// not.
func cleaning(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
}
