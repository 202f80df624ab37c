// Package sweeper runs removal in the background: acked and expired uploads,
// what crashes left in the object store, and old entries of the activity feed.
//
// Run calls Once at once and then after every interval until its context ends; a
// batch that is under way then is finished.
// Any number of replicas may run it on one database: rows are shared out with
// row locks, and deleting an orphan twice is harmless.
package sweeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/molecule-ai/pendinguploads/storage"
)

// Pruner removes old entries of the activity feed.
type Pruner interface {
	// Prune removes at most limit entries and returns how many it removed.
	Prune(ctx context.Context, limit int) (int64, error)
}

// Config of a Sweeper. Storage is required; without it there is nothing to run.
type Config struct {
	Storage storage.Sweeper

	// Retention of acked rows; zero or unset is storage.DefaultAckRetention.
	// Negative removes acked rows at once.
	Retention time.Duration
	// Interval between two runs. Default storage.DefaultSweepInterval.
	Interval time.Duration
	// RunTime bounds one run (contract 9.3). Default 30 s.
	RunTime time.Duration
	// BatchTime bounds one batch; a batch that does not make it, or fails, is tried
	// again with half the rows. Default 10 s.
	BatchTime time.Duration
	// BatchSize is how many rows are taken at a time. Default 500.
	BatchSize int

	// OrphanGrace is the age at which an object without a row is an orphan.
	// Default storage.DefaultOrphanGrace.
	OrphanGrace time.Duration
	// OrphanInterval is the time between two looks for orphans, each of which
	// lists the whole prefix; after one that failed it is a quarter of that.
	// Default 30 minutes.
	OrphanInterval time.Duration
	// OrphanTime bounds one look for orphans. Default 10 minutes.
	OrphanTime time.Duration

	// Feed, when set, is pruned every FeedInterval (default 6 h, contract 9.4).
	Feed         Pruner
	FeedInterval time.Duration

	Metrics prometheus.Registerer // optional
	Logger  *slog.Logger          // default slog.Default()
	Now     func() time.Time      // default time.Now
}

// Result counts what one run removed.
type Result struct {
	storage.SweepResult
	Orphans storage.OrphanResult
	Feed    int64 // entries of the activity feed
}

// Sweeper is the background work. Create it with New.
type Sweeper struct {
	cfg     Config
	metrics metrics
	batch   int // rows at a time, at most cfg.BatchSize

	nextOrphans, lastFeed time.Time
}

// orphanRetry is the part of OrphanInterval after which a failed look for orphans
// is repeated: not at every tick, because a bucket that is slow to list, or
// throttles, would be listed all the time.
const orphanRetry = 4

// minBatch is how far batches shrink.
const minBatch = 8

// errPanic is the error of a step that panicked.
var errPanic = errors.New("panic")

// New returns a Sweeper. It does no I/O.
func New(cfg Config) (*Sweeper, error) {
	if cfg.Storage == nil {
		return nil, errors.New("sweeper: Config.Storage is required")
	}
	setDefault(&cfg.Retention, storage.DefaultAckRetention)
	setDefault(&cfg.Interval, storage.DefaultSweepInterval)
	setDefault(&cfg.RunTime, 30*time.Second)
	setDefault(&cfg.BatchTime, 10*time.Second)
	setDefault(&cfg.BatchSize, 500)
	setDefault(&cfg.OrphanGrace, storage.DefaultOrphanGrace)
	setDefault(&cfg.OrphanInterval, 30*time.Minute)
	setDefault(&cfg.OrphanTime, 10*time.Minute)
	setDefault(&cfg.FeedInterval, 6*time.Hour)
	for name, d := range map[string]time.Duration{
		"SWEEP_INTERVAL": cfg.Interval, "run time": cfg.RunTime, "batch time": cfg.BatchTime,
		"ORPHAN_GRACE": cfg.OrphanGrace, "orphan interval": cfg.OrphanInterval, "feed interval": cfg.FeedInterval,
	} {
		if d < 0 {
			return nil, fmt.Errorf("sweeper: %s is %v, want more than 0", name, d)
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("sweeper: %w", err)
	}
	return &Sweeper{cfg: cfg, metrics: m, batch: cfg.BatchSize}, nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Run sweeps at once and then after every interval, until ctx ends. A failed
// run is counted and logged, and the next one comes all the same. With a context
// that has ended already it does nothing.
func (s *Sweeper) Run(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	s.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "sweeper started",
		slog.Duration("interval", s.cfg.Interval), slog.Duration("retention", s.cfg.Retention))
	tick := time.NewTicker(s.cfg.Interval)
	defer tick.Stop()
	for {
		result, err := s.Once(ctx)
		s.report(ctx, result, err)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if ctx.Err() != nil {
				return
			}
		}
	}
}

func (s *Sweeper) report(ctx context.Context, r Result, err error) {
	if err != nil && ctx.Err() == nil {
		s.cfg.Logger.LogAttrs(ctx, slog.LevelError, "sweep failed", slog.Any("error", err))
	}
	if r.Total() > 0 {
		s.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "sweep deleted",
			slog.Int("acked", r.Acked), slog.Int("expired", r.Expired), slog.Int("total", r.Total()))
	}
	if r.Orphans.Total() > 0 {
		s.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "sweep deleted orphans",
			slog.Int("objects", r.Orphans.Objects), slog.Int("unfinished_uploads", r.Orphans.Uploads))
	}
	if r.Feed > 0 {
		s.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "activity feed pruned", slog.Int64("entries", r.Feed))
	}
}

// Once does one run: everything that is due now, orphans and the feed when their
// own intervals have passed. What was removed before an error is in the result.
// A panic of one step is an error of that step. It must not run twice at the same
// time on one Sweeper.
func (s *Sweeper) Once(ctx context.Context) (Result, error) {
	var r Result
	if err := ctx.Err(); err != nil {
		return r, err
	}
	var errs []error
	step := func(what string, limit time.Duration, f func(context.Context) error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		defer func() {
			if p := recover(); p != nil {
				s.cfg.Logger.LogAttrs(ctx, slog.LevelError, "sweep panicked", slog.String("step", what),
					slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
				errs = append(errs, fmt.Errorf("%s: %w: %v", what, errPanic, p))
			}
		}()
		if err := f(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	step("sweep uploads", s.cfg.RunTime, func(ctx context.Context) error { return s.uploads(ctx, &r.SweepResult) })
	if now := s.cfg.Now(); !now.Before(s.nextOrphans) && ctx.Err() == nil {
		done := false
		step("sweep orphans", s.cfg.OrphanTime, func(ctx context.Context) error {
			var err error
			r.Orphans, err = s.cfg.Storage.SweepOrphans(ctx, s.cfg.OrphanGrace)
			done = err == nil
			return err
		})
		s.nextOrphans = now.Add(s.cfg.OrphanInterval)
		if !done {
			s.nextOrphans = s.cfg.Now().Add(s.cfg.OrphanInterval / orphanRetry)
		}
	}
	if now := s.cfg.Now(); s.cfg.Feed != nil && now.Sub(s.lastFeed) >= s.cfg.FeedInterval && ctx.Err() == nil {
		step("prune activity feed", s.cfg.RunTime, func(ctx context.Context) error {
			err := s.feed(ctx, &r.Feed)
			if err == nil {
				s.lastFeed = now
			}
			return err
		})
	}
	err := errors.Join(errs...)
	if ctx.Err() == nil {
		s.metrics.count(r, err)
	} else {
		s.metrics.count(r, nil)
	}
	return r, err
}

// uploads sweeps batch after batch until nothing is due. Batches shrink not only
// after a timeout: one object that cannot be deleted keeps the rows of all objects
// of its batch, so the smaller the batch, the fewer stay with it. The smallest
// ones go on while they remove anything, such as rows with inline content while the
// object store is away. A failure that is no timeout is told even when the smaller
// batches went well.
func (s *Sweeper) uploads(ctx context.Context, total *storage.SweepResult) error {
	var failure error
	for {
		size := s.batch
		r, err := s.sweepBatch(ctx, size)
		total.Acked += r.Acked
		total.Expired += r.Expired
		if err != nil {
			if failure == nil && (size <= minBatch || !errors.Is(err, context.DeadlineExceeded)) {
				failure = err
			}
			if size <= minBatch && r.Total() == 0 || ctx.Err() != nil {
				return cmp.Or(failure, err)
			}
			s.batch = max(size/2, minBatch)
			continue
		}
		s.batch = min(size*2, s.cfg.BatchSize)
		if r.Total() < size {
			return failure
		}
		if err := ctx.Err(); err != nil {
			return cmp.Or(failure, err)
		}
	}
}

// sweepBatch takes one batch. When the service stops meanwhile, the batch is
// finished within the time that it has anyway.
func (s *Sweeper) sweepBatch(ctx context.Context, size int) (storage.SweepResult, error) {
	end := time.Now().Add(s.cfg.BatchTime)
	if run, ok := ctx.Deadline(); ok && run.Before(end) {
		end = run
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), end)
	defer cancel()
	return s.cfg.Storage.Sweep(ctx, s.cfg.Retention, size)
}

// feedBatch is how many feed entries are removed in one statement.
const feedBatch = 5000

func (s *Sweeper) feed(ctx context.Context, total *int64) error {
	for {
		n, err := s.cfg.Feed.Prune(ctx, feedBatch)
		*total += n
		if err != nil || n < feedBatch {
			return err
		}
	}
}
