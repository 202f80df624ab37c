package inbox

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
)

// lastReport bounds the ack of the feed that a stop waits for.
const lastReport = 2 * time.Second

// reported is how far the feed has been acked.
type reported struct {
	seq     int64
	unknown bool // the service does not have the route
}

// reports acks the feed now and then, so that the service can prune it, and saves
// the journal.
func (r *run) reports(ctx context.Context) {
	tick := time.NewTicker(r.reportEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.report(ctx, r.reportEvery)
		case <-ctx.Done():
			return
		}
	}
}

// report acks the feed up to the last row before anything that is not done. It is
// an offer: what goes wrong is gone into with the next one.
func (r *run) report(ctx context.Context, limit time.Duration) {
	var seq int64
	r.journal.view(func(s *state) { seq = s.consumed() })
	// Whether there is something to say or not, this is when the journal of an inbox
	// that has nothing else to wait for gets to the disk, and is written anew.
	if err := r.flush(ctx); err != nil {
		r.troubles.report(ctx, "folder "+r.cfg.Journal, err)
		return
	}
	if r.reported.unknown || seq <= 0 || seq == r.reported.seq {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := r.cfg.Client.AckActivity(ctx, seq)
	switch {
	case err == nil:
		r.reported.seq = seq
	case errors.Is(err, client.ErrNotFound):
		r.reported.unknown = true
	default:
		r.log.LogAttrs(ctx, slog.LevelDebug, "feed not acked", slog.Any("error", err))
	}
}

// heartbeats say that the workspace is there.
func (r *run) heartbeats(ctx context.Context) {
	begin := time.Now()
	tick := time.NewTicker(r.cfg.Heartbeat)
	defer tick.Stop()
	for {
		uptime := wire.Int64(time.Since(begin) / time.Second)
		if _, err := r.cfg.Client.Heartbeat(ctx, wire.Heartbeat{UptimeSeconds: &uptime}); err != nil && ctx.Err() == nil {
			r.log.LogAttrs(ctx, slog.LevelInfo, "no heartbeat", slog.Any("error", err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
