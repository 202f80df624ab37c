package devstack

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Config says how servers are found. The zero value is usable.
type Config struct {
	// Log receives one line for each choice and for each long step. Nil drops
	// them.
	Log func(line string)
	// Getenv reads the environment variables named in the package comment;
	// nil means os.Getenv.
	Getenv func(key string) string
	// StateDir is the folder in which owners of servers are noted; "" means
	// one per user below the temporary folder.
	StateDir string
	// Data is a folder for data that outlives the stack (with PostgreSQL
	// flushing to disk); "" keeps data for the life of the stack only. Data
	// of containers lies in named volumes of the engine instead.
	Data string
}

// Stack is a set of servers, each started on the first call that needs it.
// Its methods may be called concurrently.
type Stack struct {
	cfg      Config
	owner    lazy[*owner]
	engine   lazy[*engine]
	postgres lazy[postgresServer]
	minio    lazy[S3]
	versity  lazy[S3]
	template lazy[string]
	data     lazy[*dataFolder]

	mu      sync.Mutex
	stopped bool
	stops   []*func(context.Context) error // pointers, so that one can be found again
}

// New returns a stack of which nothing is started.
func New(cfg Config) *Stack {
	if cfg.Log == nil {
		cfg.Log = func(string) {}
	}
	if cfg.Getenv == nil {
		cfg.Getenv = os.Getenv
	}
	return &Stack{cfg: cfg}
}

// Start returns a stack whose PostgreSQL and main S3 server answer. On failure
// nothing is left running.
func Start(ctx context.Context, cfg Config) (*Stack, error) {
	s := New(cfg)
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { _, err := s.Postgres(groupCtx); return err })
	group.Go(func() error { _, err := s.MinIO(groupCtx); return err })
	if err := group.Wait(); err != nil {
		return nil, errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
	}
	return s, nil
}

// PostgresURL is the URL of the running PostgreSQL's maintenance database, ""
// before it was started.
func (s *Stack) PostgresURL() string {
	server, _ := s.postgres.peek()
	return server.url
}

// S3 is the main S3 server, the zero value before it was started. Its Bucket is
// empty unless CreateBucket is called on the value.
func (s *Stack) S3() S3 {
	s3, _ := s.minio.peek()
	return s3
}

// Stop stops what this stack started, last first, and forgets it. It is safe to
// call more than once and from a signal handler's goroutine.
func (s *Stack) Stop(ctx context.Context) error {
	s.mu.Lock()
	s.stopped = true
	stops := s.stops
	s.stops = nil
	s.mu.Unlock()

	var errs []error
	for i := len(stops) - 1; i >= 0; i-- {
		errs = append(errs, (*stops[i])(ctx))
	}
	if engine, ok := s.engine.peek(); ok && engine != nil {
		errs = append(errs, engine.client.Close())
	}
	if data, ok := s.data.peek(); ok && data != nil {
		errs = append(errs, data.close())
	}
	if owner, ok := s.owner.peek(); ok && owner != nil && errors.Join(errs...) == nil {
		errs = append(errs, owner.remove())
	}
	return errors.Join(errs...)
}

// onStop registers the stop of something that was just started. When the stack
// was stopped meanwhile it is stopped at once. done takes the registration back,
// for what is removed before the stack is stopped.
func (s *Stack) onStop(ctx context.Context, stop func(context.Context) error) (done func(), err error) {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return nil, errors.Join(errors.New("devstack: stopped while starting"), stop(context.WithoutCancel(ctx)))
	}
	defer s.mu.Unlock()
	registered := &stop
	s.stops = append(s.stops, registered)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stops = slices.DeleteFunc(s.stops, func(other *func(context.Context) error) bool { return other == registered })
	}, nil
}

// own returns this stack's owner folder; making it reaps what killed owners
// left behind.
func (s *Stack) own(ctx context.Context) (*owner, error) {
	return s.owner.get(func() (*owner, error) {
		dir := s.cfg.StateDir
		if dir == "" {
			dir = filepath.Join(tempDir(), stateFolderName())
		}
		if err := s.reap(ctx, dir); err != nil {
			s.cfg.Log("could not remove everything that a killed run left behind: " + err.Error())
		}
		return newOwner(dir)
	})
}

// lazy is a value made once, on the first call that needs it.
type lazy[T any] struct {
	making sync.Mutex // held while the value is made

	mu    sync.Mutex // guards the fields below, never held for long
	made  bool
	value T
	err   error
}

func (l *lazy[T]) get(create func() (T, error)) (T, error) {
	l.making.Lock()
	defer l.making.Unlock()
	if value, err, ok := l.result(); ok {
		return value, err
	}
	value, err := create()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.value, l.err, l.made = value, err, true
	return value, err
}

func (l *lazy[T]) result() (value T, err error, made bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.value, l.err, l.made
}

// peek returns the value if it was made, without waiting for one in the making.
func (l *lazy[T]) peek() (T, bool) {
	value, err, made := l.result()
	return value, made && err == nil
}
