package blob

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// DefaultPartBytes is the size of a part buffer where none is configured:
	// the smallest part that S3 takes in a multipart upload (the last excepted).
	DefaultPartBytes = 5 << 20

	// MaxPartBytes is the largest part buffer that can be configured. MinIO
	// behind TLS refuses aws-chunked chunks above 16 MiB, and the AWS SDK sends a
	// body of known length as one chunk; half of that leaves room for framing and
	// for other stores.
	MaxPartBytes = 8 << 20

	// DefaultBudgetBytes is the byte budget where none is configured, 256 MiB.
	DefaultBudgetBytes = 256 << 20

	// DefaultMaxWait is how long a caller waits for memory before ErrBusy. It
	// stays below the patience of clients and load balancers, so that they see a
	// readable answer instead of a broken connection.
	DefaultMaxWait = 10 * time.Second

	// idleWindow is how long a buffer lies unused before it is given back to the
	// garbage collector: long enough for the next wave of uploads to reuse it,
	// short enough that a peak is forgotten.
	idleWindow = 30 * time.Second
)

// ErrOverBudget: a reservation is larger than reservations may be at all, so no
// amount of waiting could grant it.
var ErrOverBudget = errors.New("reservation above the memory budget")

// PoolConfig sizes a Pool. Zero fields take their defaults.
type PoolConfig struct {
	PartBytes   int           // size of one buffer in bytes, 1 to MaxPartBytes; default DefaultPartBytes
	BudgetBytes int64         // bytes of all buffers and reservations together, at least PartBytes; default DefaultBudgetBytes
	MaxWait     time.Duration // longest wait of Get and Reserve; default DefaultMaxWait

	// ReservableBytes is the most that reservations hold together, at most the
	// budget less one buffer, which is the default. Where those who reserve go on
	// to need a buffer, half the budget serves better: with the default they could
	// fill it until all of them take turns with the one buffer that is left.
	ReservableBytes int64
}

// Pool hands out part buffers and plain reservations of bytes under one budget,
// so that memory is bounded whatever the number of uploads. Waiters are served
// in the order they came. Safe for concurrent use.
//
// A caller that holds a buffer must not wait for anything else of the pool: two
// such callers could wait for each other. An upload waits for its first buffer
// only; it takes further ones with TryGet, and when that fails waits until one of
// its own comes back. A caller that holds a reservation may wait for a buffer:
// reservations together leave room for some, and whoever has one gives it back.
type Pool struct {
	cfg        PoolConfig
	sem        *semaphore.Weighted // the budget
	reservable *semaphore.Weighted // what reservations may take of it

	mu       sync.Mutex
	idle     []*Buffer // the last one put back is the first one taken: its pages are warm
	unused   int       // fewest idle buffers there were in this window
	trimming bool      // a timer for the end of the window is set
	inUse    int64
	waiting  int
}

// Buffer is one part buffer. It belongs to whoever got it until it is put back.
type Buffer struct {
	b      []byte
	pooled bool
}

// Bytes is the whole buffer, PartBytes long. Its content is what its last user
// left in it.
func (b *Buffer) Bytes() []byte { return b.b }

// PoolStats is a snapshot of a Pool, for metrics.
type PoolStats struct {
	BudgetBytes int64 // the budget
	InUseBytes  int64 // held by buffers and reservations that are out
	IdleBytes   int64 // held by buffers kept for reuse
	Waiting     int   // callers waiting in Get or Reserve
}

// NewPool returns a pool that holds no memory yet. The error names the field
// that cannot work.
func NewPool(cfg PoolConfig) (*Pool, error) {
	if cfg.PartBytes == 0 {
		cfg.PartBytes = DefaultPartBytes
	}
	if cfg.BudgetBytes == 0 {
		cfg.BudgetBytes = DefaultBudgetBytes
	}
	if cfg.MaxWait == 0 {
		cfg.MaxWait = DefaultMaxWait
	}
	switch {
	case cfg.PartBytes < 1 || cfg.PartBytes > MaxPartBytes:
		return nil, fmt.Errorf("part buffer of %d bytes, want 1 to %d", cfg.PartBytes, MaxPartBytes)
	case cfg.BudgetBytes < int64(cfg.PartBytes):
		return nil, fmt.Errorf("memory budget of %d bytes, want at least one part buffer (%d)", cfg.BudgetBytes, cfg.PartBytes)
	case cfg.MaxWait < 0:
		return nil, fmt.Errorf("longest wait for memory is %v, want more than 0", cfg.MaxWait)
	}
	if most := cfg.BudgetBytes - int64(cfg.PartBytes); cfg.ReservableBytes == 0 {
		cfg.ReservableBytes = most
	} else if cfg.ReservableBytes < 0 || cfg.ReservableBytes > most {
		return nil, fmt.Errorf("share of %d bytes for reservations, want 1 to %d", cfg.ReservableBytes, most)
	}
	return &Pool{
		cfg:        cfg,
		sem:        semaphore.NewWeighted(cfg.BudgetBytes),
		reservable: semaphore.NewWeighted(cfg.ReservableBytes),
	}, nil
}

// PartBytes is the length of every buffer.
func (p *Pool) PartBytes() int { return p.cfg.PartBytes }

// BudgetBytes is the budget that buffers and reservations share.
func (p *Pool) BudgetBytes() int64 { return p.cfg.BudgetBytes }

// Get returns a buffer, waiting up to MaxWait for one; then ErrBusy. It wraps
// ctx's error when that ends first.
func (p *Pool) Get(ctx context.Context) (*Buffer, error) {
	if err := p.wait(ctx, func(ctx context.Context) error { return p.sem.Acquire(ctx, int64(p.cfg.PartBytes)) }); err != nil {
		return nil, fmt.Errorf("get part buffer: %w", err)
	}
	return p.take(), nil
}

// TryGet returns a buffer if that needs no waiting and leaves three quarters of
// the budget alone: those are kept for first buffers and reservations, so that a
// few large uploads do not keep everybody else out, and memory stays near what
// the number of uploads needs.
func (p *Pool) TryGet() (*Buffer, bool) {
	n := int64(p.cfg.PartBytes)
	p.mu.Lock()
	enough := p.inUse+n <= p.cfg.BudgetBytes/4
	p.mu.Unlock()
	if !enough || !p.sem.TryAcquire(n) {
		return nil, false
	}
	return p.take(), true
}

// Put gives a buffer back. The caller must not use it, nor anything that reads
// from it, afterwards. Putting one back twice panics, because two uploads would
// share it.
func (p *Pool) Put(b *Buffer) {
	p.mu.Lock()
	if b.pooled {
		p.mu.Unlock()
		panic("blob: buffer put back twice")
	}
	b.pooled = true
	p.inUse -= int64(len(b.b))
	p.idle = append(p.idle, b)
	p.watchIdle()
	p.mu.Unlock()
	p.sem.Release(int64(len(b.b)))
}

// Reserve takes n bytes out of the budget for memory that the caller allocates
// itself, waiting up to MaxWait; then ErrBusy. n above ReservableBytes is
// ErrOverBudget at once. release may be called more than once.
func (p *Pool) Reserve(ctx context.Context, n int64) (release func(), err error) {
	switch {
	case n < 0:
		return nil, fmt.Errorf("reserve %d bytes: negative", n)
	case n > p.cfg.ReservableBytes:
		return nil, fmt.Errorf("reserve %d bytes of %d: %w", n, p.cfg.ReservableBytes, ErrOverBudget)
	}
	err = p.wait(ctx, func(ctx context.Context) error {
		if err := p.reservable.Acquire(ctx, n); err != nil {
			return err
		}
		err := p.sem.Acquire(ctx, n)
		if err != nil {
			p.reservable.Release(n)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reserve %d bytes: %w", n, err)
	}
	p.mu.Lock()
	p.inUse += n
	for len(p.idle) > 0 && p.inUse+p.idleBytes() > p.cfg.BudgetBytes {
		p.drop(1)
	}
	p.mu.Unlock()
	return sync.OnceFunc(func() {
		p.mu.Lock()
		p.inUse -= n
		p.mu.Unlock()
		p.sem.Release(n)
		p.reservable.Release(n)
	}), nil
}

// Stats returns the pool's state now.
func (p *Pool) Stats() PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return PoolStats{
		BudgetBytes: p.cfg.BudgetBytes,
		InUseBytes:  p.inUse,
		IdleBytes:   p.idleBytes(),
		Waiting:     p.waiting,
	}
}

// wait runs acquire, which takes its turn, for up to MaxWait.
func (p *Pool) wait(ctx context.Context, acquire func(context.Context) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	p.addWaiting(1)
	defer p.addWaiting(-1)
	wait, cancel := context.WithTimeout(ctx, p.cfg.MaxWait)
	defer cancel()
	if err := acquire(wait); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("%w for %v", ErrBusy, p.cfg.MaxWait)
	}
	return nil
}

func (p *Pool) addWaiting(n int) {
	p.mu.Lock()
	p.waiting += n
	p.mu.Unlock()
}

// take turns acquired bytes into a buffer, an idle one if there is any.
func (p *Pool) take() *Buffer {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inUse += int64(p.cfg.PartBytes)
	last := len(p.idle) - 1
	if last < 0 {
		// Untouched pages of a fresh buffer cost nothing until they are written.
		return &Buffer{b: make([]byte, p.cfg.PartBytes)}
	}
	b := p.idle[last]
	p.idle[last] = nil
	p.idle = p.idle[:last]
	p.unused = min(p.unused, last)
	b.pooled = false
	return b
}

// watchIdle sees to it that idle buffers do not stay for ever. p.mu is held.
func (p *Pool) watchIdle() {
	if p.trimming {
		return
	}
	p.trimming = true
	p.unused = 0
	time.AfterFunc(idleWindow, p.trim)
}

// trim ends a window: the buffers that were idle all through it go.
func (p *Pool) trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(min(p.unused, len(p.idle)))
	p.trimming = len(p.idle) > 0
	if p.trimming {
		p.unused = len(p.idle)
		time.AfterFunc(idleWindow, p.trim)
	}
}

// drop lets go of the n idle buffers that were used longest ago. p.mu is held.
func (p *Pool) drop(n int) {
	rest := copy(p.idle, p.idle[n:])
	clear(p.idle[rest:])
	p.idle = p.idle[:rest]
	p.unused = min(p.unused, rest)
}

// idleBytes is the memory of the buffers kept for reuse. p.mu is held.
func (p *Pool) idleBytes() int64 {
	return int64(len(p.idle)) * int64(p.cfg.PartBytes)
}
