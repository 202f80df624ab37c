package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/molecule-ai/pendinguploads/metadata"
)

// notifyPatience is how long a notification may take. On a working connection it
// takes milliseconds.
const notifyPatience = 3 * time.Second

const notifySQL = `SELECT pg_notify(@channel, @payload)`

// checkNotify listens and notifies as two replicas would. On a channel of its
// own: no replica is woken.
func (d *Doctor) checkNotify(ctx context.Context) verdict {
	if d.cfg.Settings.FeedNotify != "on" {
		return ok("FEED_NOTIFY is off: entries of other replicas arrive by a poll every 4 s")
	}
	const fix = "let DATABASE_URL name PostgreSQL itself or a pooler in session mode, or set FEED_NOTIFY=off: feeds are polled every 4 s meanwhile"
	took, err := d.notified(ctx)
	switch {
	case errors.Is(err, errUnheard):
		return warn(fix, "LISTEN is accepted, but NOTIFY does not arrive within %v", notifyPatience)
	case err != nil:
		return warn(fix, "LISTEN: %s", databaseSaid(err))
	}
	return ok("NOTIFY arrives after %v", took.Round(100*time.Microsecond))
}

var errUnheard = errors.New("nothing arrived")

func (d *Doctor) notified(ctx context.Context) (time.Duration, error) {
	conn, err := metadata.DialLike(d.pool)(ctx)
	if err != nil {
		return 0, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), notifyPatience)
		defer cancel()
		_ = conn.Close(ctx) // it has served
	}()
	channel := "pendinguploads_doctor_" + strings.ToLower(rand.Text())
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return 0, err
	}
	began := time.Now()
	if _, err := d.pool.Exec(ctx, notifySQL, pgx.NamedArgs{"channel": channel, "payload": channel}); err != nil {
		return 0, err
	}
	wait, cancel := context.WithTimeoutCause(ctx, notifyPatience, errUnheard)
	defer cancel()
	if _, err := conn.WaitForNotification(wait); err != nil {
		if errors.Is(context.Cause(wait), errUnheard) {
			return 0, errUnheard
		}
		return 0, err
	}
	return time.Since(began), nil
}
