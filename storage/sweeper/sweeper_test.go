package sweeper_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/sweeper"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is a storage whose sweeps are answered by a function.
type script struct {
	mu      sync.Mutex
	calls   []call
	sweep   func(ctx context.Context, n int, limit int) (storage.SweepResult, error)
	orphans func() (storage.OrphanResult, error)
	looks   int
}

type call struct {
	at        time.Time
	retention time.Duration
	limit     int
}

func (s *script) Sweep(ctx context.Context, retention time.Duration, limit int) (storage.SweepResult, error) {
	s.mu.Lock()
	s.calls = append(s.calls, call{time.Now(), retention, limit})
	n := len(s.calls)
	s.mu.Unlock()
	if s.sweep == nil {
		return storage.SweepResult{}, nil
	}
	return s.sweep(ctx, n, limit)
}

func (s *script) SweepOrphans(context.Context, time.Duration) (storage.OrphanResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	if s.orphans == nil {
		return storage.OrphanResult{}, nil
	}
	return s.orphans()
}

// seen returns the sweeps so far.
func (s *script) seen() []call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

func newSweeper(t *testing.T, cfg sweeper.Config) *sweeper.Sweeper {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := sweeper.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRunSweepsAtOnceAndThenEveryInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := &script{}
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		done := make(chan struct{})
		s := newSweeper(t, sweeper.Config{Storage: st})
		go func() { defer close(done); s.Run(ctx) }()
		synctest.Wait()
		if calls := st.seen(); len(calls) != 1 || !calls[0].at.Equal(start) {
			t.Fatalf("first sweep not at once: %v", calls)
		}
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		calls := st.seen()
		if len(calls) != 3 {
			t.Errorf("%d sweeps after 11 minutes at 5 minutes' interval, want 3", len(calls))
		}
		if calls[0].retention != time.Hour {
			t.Errorf("retention %v, want 1h by default", calls[0].retention)
		}
		cancel()
		<-done
		time.Sleep(time.Hour)
		if len(st.seen()) != len(calls) {
			t.Error("a sweep ran after cancellation")
		}
	})
}

func TestRunDoesNothingWithACancelledContext(t *testing.T) {
	t.Parallel()
	st := &script{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	reg := prometheus.NewRegistry()
	s := newSweeper(t, sweeper.Config{Storage: st, Metrics: reg})
	s.Run(ctx)
	if _, err := s.Once(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Once: %v", err)
	}
	if n := len(st.seen()); n != 0 {
		t.Errorf("%d sweeps", n)
	}
	wantSwept(t, reg, 0, 0, 0)
}

func TestRunSurvivesErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		st := &script{sweep: func(context.Context, int, int) (storage.SweepResult, error) {
			if time.Now().Equal(start) {
				return storage.SweepResult{}, errors.New("database is away")
			}
			return storage.SweepResult{Acked: 2, Expired: 3}, nil
		}}
		reg := prometheus.NewRegistry()
		var log bytes.Buffer
		s := newSweeper(t, sweeper.Config{Storage: st, Metrics: reg, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()
		synctest.Wait()
		wantSwept(t, reg, 0, 0, 1)
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		cancel()
		<-done
		wantSwept(t, reg, 2, 3, 1)
		for _, want := range []string{"sweeper started", "sweep failed", "database is away", "sweep deleted", "acked=2", "expired=3", "total=5"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log lacks %q:\n%s", want, log.String())
			}
		}
	})
}

func TestAllOutcomesAreExportedFromTheStart(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	newSweeper(t, sweeper.Config{Storage: &script{}, Metrics: reg})
	wantSwept(t, reg, 0, 0, 0)
}

func wantSwept(t *testing.T, reg *prometheus.Registry, acked, expired, failed int) {
	t.Helper()
	want := "# HELP molecule_pending_uploads_swept_total Rows of pending uploads removed, by outcome acked or expired; error counts failed sweeps.\n" +
		"# TYPE molecule_pending_uploads_swept_total counter\n"
	for _, o := range []struct {
		name string
		n    int
	}{{"acked", acked}, {"error", failed}, {"expired", expired}} {
		want += "molecule_pending_uploads_swept_total{outcome=\"" + o.name + "\"} " + itoa(o.n) + "\n"
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "molecule_pending_uploads_swept_total"); err != nil {
		t.Error(err)
	}
}

func itoa(n int) string { return string(rune('0' + n)) }

func TestOnceGoesOnUntilNothingIsDue(t *testing.T) {
	t.Parallel()
	st := &script{sweep: func(_ context.Context, n, limit int) (storage.SweepResult, error) {
		if n < 4 {
			return storage.SweepResult{Expired: limit}, nil
		}
		return storage.SweepResult{Acked: 1}, nil
	}}
	r, err := newSweeper(t, sweeper.Config{Storage: st, BatchSize: 10}).Once(t.Context())
	if err != nil || r.Expired != 30 || r.Acked != 1 || len(st.seen()) != 4 {
		t.Errorf("%+v, %v, %d batches", r, err, len(st.seen()))
	}
}

func TestBatchesShrinkAfterATimeoutAndGrowAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := &script{sweep: func(ctx context.Context, n, limit int) (storage.SweepResult, error) {
			if limit > 100 && n < 5 {
				<-ctx.Done()
				return storage.SweepResult{}, ctx.Err()
			}
			if n < 6 {
				return storage.SweepResult{Expired: limit}, nil
			}
			return storage.SweepResult{}, nil
		}}
		r, err := newSweeper(t, sweeper.Config{Storage: st, BatchSize: 400, BatchTime: time.Second}).Once(t.Context())
		var limits []int
		for _, c := range st.seen() {
			limits = append(limits, c.limit)
		}
		want := []int{400, 200, 100, 200, 100, 200}
		if err != nil || r.Expired != 200 || len(limits) != len(want) {
			t.Fatalf("%+v, %v, batches of %v", r, err, limits)
		}
		for i := range want {
			if limits[i] != want[i] {
				t.Fatalf("batches of %v, want %v", limits, want)
			}
		}
	})
}

// One object that cannot be deleted fails every batch that its row is in; the
// store puts such rows at the end of the queue.
func TestOneBadRowDoesNotKeepTheOthersFromBeingSwept(t *testing.T) {
	t.Parallel()
	refused := errors.New("object is locked")
	good, bad := 300, 1
	st := &script{}
	st.sweep = func(_ context.Context, _, limit int) (storage.SweepResult, error) {
		if limit > good && bad > 0 {
			return storage.SweepResult{}, refused
		}
		n := min(limit, good)
		good -= n
		return storage.SweepResult{Expired: n}, nil
	}
	r, err := newSweeper(t, sweeper.Config{Storage: st}).Once(t.Context())
	if !errors.Is(err, refused) || good >= 8 || r.Expired != 300-good {
		t.Errorf("%+v, %v; %d good rows are left, want fewer than the smallest batch", r, err, good)
	}
}

func TestAFailureIsToldThoughSmallerBatchesWentWell(t *testing.T) {
	t.Parallel()
	lost := errors.New("connection reset")
	st := &script{sweep: func(_ context.Context, n, limit int) (storage.SweepResult, error) {
		if n == 1 {
			return storage.SweepResult{}, lost
		}
		return storage.SweepResult{Acked: 5}, nil
	}}
	reg := prometheus.NewRegistry()
	r, err := newSweeper(t, sweeper.Config{Storage: st, Metrics: reg}).Once(t.Context())
	if !errors.Is(err, lost) || r.Acked != 5 {
		t.Errorf("%+v, %v; want the rows and the failure", r, err)
	}
	wantSwept(t, reg, 5, 0, 1)
}

func TestAPanicIsAFailedStep(t *testing.T) {
	t.Parallel()
	st := &script{sweep: func(context.Context, int, int) (storage.SweepResult, error) { panic("boom") }}
	feed := &pruner{left: 3}
	reg := prometheus.NewRegistry()
	var log bytes.Buffer
	s := newSweeper(t, sweeper.Config{Storage: st, Feed: feed, Metrics: reg, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	r, err := s.Once(t.Context())
	if err == nil || !strings.Contains(err.Error(), "boom") || r.Feed != 3 || st.looks != 1 {
		t.Errorf("%+v, %v, %d looks; want an error and the other steps", r, err, st.looks)
	}
	wantSwept(t, reg, 0, 0, 1)
	if !strings.Contains(log.String(), "sweeper_test.go") {
		t.Errorf("the log does not say where:\n%s", log.String())
	}
}

func TestABatchUnderWayIsFinishedWhenTheServiceStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := &script{sweep: func(ctx context.Context, _, limit int) (storage.SweepResult, error) {
			select {
			case <-ctx.Done():
				return storage.SweepResult{}, ctx.Err()
			case <-time.After(5 * time.Second):
				return storage.SweepResult{Acked: 1, Expired: limit - 1}, nil
			}
		}}
		reg := prometheus.NewRegistry()
		s := newSweeper(t, sweeper.Config{Storage: st, BatchSize: 4, Metrics: reg})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()
		synctest.Wait()
		cancel()
		<-done
		if n := len(st.seen()); n != 1 || st.looks != 0 {
			t.Errorf("%d batches and %d looks for orphans, want the batch under way alone", n, st.looks)
		}
		wantSwept(t, reg, 1, 3, 0)
	})
}

func TestARunEndsAtItsDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := &script{sweep: func(_ context.Context, _, limit int) (storage.SweepResult, error) {
			time.Sleep(1100 * time.Millisecond)
			return storage.SweepResult{Acked: limit}, nil // there is always more
		}}
		reg := prometheus.NewRegistry()
		start := time.Now()
		r, err := newSweeper(t, sweeper.Config{Storage: st, BatchSize: 1, Metrics: reg}).Once(t.Context())
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 31*time.Second || r.Acked != 28 {
			t.Errorf("%+v, %v after %v", r, err, time.Since(start))
		}
	})
}

func TestOrphansAndFeedHaveTheirOwnIntervals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := &script{orphans: func() (storage.OrphanResult, error) { return storage.OrphanResult{Objects: 1, Uploads: 2}, nil }}
		feed := &pruner{left: 12000}
		s := newSweeper(t, sweeper.Config{Storage: st, Feed: feed})
		r, err := s.Once(t.Context())
		if err != nil || r.Orphans.Total() != 3 || r.Feed != 12000 {
			t.Fatalf("first run: %+v, %v", r, err)
		}
		for range 12 {
			time.Sleep(5 * time.Minute)
			if _, err := s.Once(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if st.looks != 3 {
			t.Errorf("%d looks for orphans in an hour, want 3", st.looks)
		}
		calls := feed.calls
		time.Sleep(5 * time.Hour)
		if _, err := s.Once(t.Context()); err != nil || feed.calls != calls+1 {
			t.Errorf("feed pruned %d times more after 6 h, want once: %v", feed.calls-calls, err)
		}
	})
}

// A look for orphans lists the whole bucket: one that fails, panics or takes all its
// time is not repeated at every tick.
func TestAFailedLookForOrphansIsNotRepeatedAtOnce(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func() (storage.OrphanResult, error){
		"fails":  func() (storage.OrphanResult, error) { return storage.OrphanResult{}, errors.New("slow down") },
		"panics": func() (storage.OrphanResult, error) { panic("boom") },
		"takes all its time": func() (storage.OrphanResult, error) {
			time.Sleep(10 * time.Minute)
			return storage.OrphanResult{}, context.DeadlineExceeded
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				st := &script{orphans: fail}
				s := newSweeper(t, sweeper.Config{Storage: st, OrphanInterval: 40 * time.Minute})
				once := func(looks int) {
					t.Helper()
					_, err := s.Once(t.Context())
					if got := st.looks; got != looks {
						t.Errorf("%d looks, want %d (%v)", got, looks, err)
					}
				}
				once(1)
				once(1)
				time.Sleep(10*time.Minute - time.Second)
				once(1)
				time.Sleep(time.Second)
				once(2)
				st.orphans = nil
				time.Sleep(10 * time.Minute)
				once(3) // and goes well
				time.Sleep(39 * time.Minute)
				once(3)
				time.Sleep(time.Minute)
				once(4)
			})
		})
	}
}

// The object store is away, and rows with inline content are due between those of
// objects: a batch has some of both.
func TestBatchesGoOnWhileTheyRemoveAnything(t *testing.T) {
	t.Parallel()
	away := errors.New("store is away")
	inline := 2000
	st := &script{}
	st.sweep = func(_ context.Context, _, limit int) (storage.SweepResult, error) {
		n := min(limit/2, inline)
		inline -= n
		return storage.SweepResult{Expired: n}, away
	}
	r, err := newSweeper(t, sweeper.Config{Storage: st}).Once(t.Context())
	if !errors.Is(err, away) || r.Expired != 2000 {
		t.Errorf("%+v, %v; want 2000 rows and the failure", r, err)
	}
}

func TestAFailedStepDoesNotKeepTheOthersFromRunning(t *testing.T) {
	t.Parallel()
	lost := errors.New("bucket is away")
	st := &script{
		sweep:   func(context.Context, int, int) (storage.SweepResult, error) { return storage.SweepResult{}, lost },
		orphans: func() (storage.OrphanResult, error) { return storage.OrphanResult{}, lost },
	}
	feed := &pruner{left: 3}
	r, err := newSweeper(t, sweeper.Config{Storage: st, Feed: feed}).Once(t.Context())
	if !errors.Is(err, lost) || r.Feed != 3 || st.looks != 1 {
		t.Errorf("%+v, %v, %d looks", r, err, st.looks)
	}
}

type pruner struct {
	left  int64
	calls int
}

func (p *pruner) Prune(_ context.Context, limit int) (int64, error) {
	p.calls++
	n := min(p.left, int64(limit))
	p.left -= n
	return n, nil
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	if _, err := sweeper.New(sweeper.Config{}); err == nil {
		t.Error("no storage was accepted")
	}
	_, err := sweeper.New(sweeper.Config{Storage: &script{}, Interval: -1})
	if err == nil || !strings.Contains(err.Error(), "SWEEP_INTERVAL") {
		t.Errorf("a negative interval: %v", err)
	}
}
