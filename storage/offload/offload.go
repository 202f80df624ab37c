// Package offload moves content of pending uploads between their rows and the
// object store, while uploads are staged, read, acked and swept.
//
// Into objects, each row goes through these steps:
//
//	claim   an advisory lock; it only keeps others from doing the same work
//	copy    row ──1 MiB at a time──► object, under the key that a put would use
//	verify  the object's size and SHA-256, as the store has them or read back
//	flip    one statement: cite the object, drop the content, if Get serves the
//	        upload still, and from its row; small files of a batch share it
//
// No row is locked while content is copied. A copy that is killed, or whose row was
// acked or ran out meanwhile, leaves at most an object that no row cites: the next
// copy of that row writes it again, and once the row is gone it is an orphan for
// SweepOrphans. An object is removed here only when its row is gone or being swept,
// which no statement takes back, so nobody's flip can be waiting for it.
//
// Back into rows the order is the same, and the object stays: somebody may read it.
// It is an orphan too once its row is gone.
package offload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

// Mode is what a run does.
type Mode int

const (
	// ToObjects moves inline content of more than InlineMaxBytes into objects.
	ToObjects Mode = iota

	// ToRows moves content of at most InlineMaxBytes from objects into rows.
	ToRows

	// Verify reads every object that a served upload cites, and moves nothing.
	Verify
)

const (
	// MaxWorkers is the most rows that one run works on at a time.
	MaxWorkers = 64

	// MaxBatch is the most rows that are claimed at a time.
	MaxBatch = 256

	// ConnsPerWorker is how many connections a worker may take: claims are
	// transactions, and statements run beside them.
	ConnsPerWorker = 2
)

// chunk is how much of a row is read at a time.
const chunk = storage.MiB

// Config of a Mover. DB, Uploads and Objects are required.
type Config struct {
	DB      metadata.DB       // gives out ConnsPerWorker connections for each worker
	Uploads *metadata.Uploads // on DB; what its Get serves is what is moved

	Objects   blob.Store
	KeyPrefix string         // that of the stores on the same rows
	Budget    staging.Budget // for content on its way into rows; required for ToRows
	PartBytes int            // in which Objects writes larger content; 0: not known, so it is read back

	Mode           Mode
	InlineMaxBytes int64 // largest file that belongs in its row, 0 or more

	Workers int // rows at a time, 1 to MaxWorkers; default 4
	Batch   int // rows claimed at a time, for all workers, 1 to MaxBatch; default 16

	BytesPerSecond int64   // of content, in this process; 0: no limit
	RowsPerSecond  float64 // in this process; 0: no limit

	// Patience is how long a failure of database or object store is tried again,
	// at least once, before it ends the run. Default 1 minute.
	Patience time.Duration

	// Progress, where set, is called after every row, one call at a time.
	Progress func(Result)

	Logger *slog.Logger // default slog.Default()
}

// Result counts what a run did.
type Result struct {
	Rows  int64 // moved, or verified and good
	Bytes int64 // of those

	Left    int64 // acked, expired, swept or moved by somebody else before their turn was over
	Held    int64 // claimed by other processes, in the last pass
	Corrupt int64 // content is not what was staged: not moved, and marked
	Failed  int64 // not moved after Patience, and named in the log
}

// Mover is one run. Create it with New.
type Mover struct {
	cfg   Config
	scope metadata.MoveScope
	key   func(storage.WorkspaceID, storage.FileID) string
	bytes *rate.Limiter
	rows  *rate.Limiter

	claiming sync.Mutex // guards the pass, the four below
	cursor   metadata.UploadID
	batch    *batch      // the last one that was claimed
	end      bool        // nothing is left to claim
	aside    []*flipping // locked by others when it was their turn

	counting sync.Mutex // guards the rest
	result   Result
	skip     map[metadata.UploadID]bool // corrupt, or failed
	failure  error                      // the last one

	// Rows that failed since one did not, in what is done to each in turn, and in
	// flips. Copies succeed while no flip does, and flips come in batches.
	rowsFailed, flipsFailed int
}

// New returns a Mover. It does no I/O; the error names the field that is wrong.
func New(cfg Config) (*Mover, error) {
	switch {
	case cfg.DB == nil || cfg.Uploads == nil || cfg.Objects == nil:
		return nil, errors.New("offload: Config.DB, Uploads and Objects are required")
	case cfg.Mode < ToObjects || cfg.Mode > Verify:
		return nil, fmt.Errorf("offload: mode %d is unknown", cfg.Mode)
	case cfg.Mode == ToRows && cfg.Budget == nil:
		return nil, errors.New("offload: Config.Budget is required to move content into rows")
	case cfg.InlineMaxBytes < 0:
		return nil, fmt.Errorf("offload: INLINE_MAX_BYTES is %d, want 0 or more", cfg.InlineMaxBytes)
	case cfg.Mode == ToRows && cfg.InlineMaxBytes == 0:
		return nil, errors.New("offload: INLINE_MAX_BYTES is 0, so no content belongs in rows; want 1 or more, as the servers have it")
	case cfg.Workers < 0 || cfg.Workers > MaxWorkers:
		return nil, fmt.Errorf("offload: workers is %d, want 1 to %d", cfg.Workers, MaxWorkers)
	case cfg.Batch < 0 || cfg.Batch > MaxBatch:
		return nil, fmt.Errorf("offload: batch is %d, want 1 to %d", cfg.Batch, MaxBatch)
	case cfg.BytesPerSecond < 0:
		return nil, fmt.Errorf("offload: bytes per second is %d, want 0 or more", cfg.BytesPerSecond)
	case !(cfg.RowsPerSecond >= 0) || math.IsInf(cfg.RowsPerSecond, 1):
		return nil, fmt.Errorf("offload: rows per second is %v, want 0 or more", cfg.RowsPerSecond)
	}
	key, err := staging.Keys(cfg.KeyPrefix)
	if err != nil {
		return nil, fmt.Errorf("offload: %w", err)
	}
	if cfg.Workers == 0 {
		cfg.Workers = 4
	}
	if cfg.Batch == 0 {
		cfg.Batch = 16
	}
	if pool, ok := cfg.DB.(*pgxpool.Pool); ok && int64(pool.Config().MaxConns) < int64(cfg.Workers)*ConnsPerWorker {
		return nil, fmt.Errorf("offload: %d workers with %d database connections, want %d for each", cfg.Workers, pool.Config().MaxConns, ConnsPerWorker)
	}
	if cfg.Patience <= 0 {
		cfg.Patience = time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	m := &Mover{
		cfg: cfg, key: key, scope: Scope(cfg.Mode, cfg.InlineMaxBytes), skip: map[metadata.UploadID]bool{},
		bytes: rate.NewLimiter(rate.Inf, chunk), rows: rate.NewLimiter(rate.Inf, 1),
	}
	if cfg.BytesPerSecond > 0 {
		m.bytes.SetLimit(rate.Limit(cfg.BytesPerSecond))
	}
	if cfg.RowsPerSecond > 0 {
		m.rows.SetLimit(rate.Limit(cfg.RowsPerSecond))
	}
	return m, nil
}

// Scope is the uploads that a run in that mode is about.
func Scope(mode Mode, inlineMaxBytes int64) metadata.MoveScope {
	switch mode {
	case ToObjects:
		return metadata.MoveScope{From: storage.PlacementInline, MinBytes: inlineMaxBytes + 1, MaxBytes: math.MaxInt64}
	case ToRows:
		return metadata.MoveScope{From: storage.PlacementObject, MinBytes: 1, MaxBytes: inlineMaxBytes}
	}
	return metadata.MoveScope{From: storage.PlacementObject, MinBytes: 1, MaxBytes: math.MaxInt64}
}

// Run works until a pass over the rows finds none to move that is not claimed by
// others, corrupt or failed; verifying takes one pass. What was done before an error
// is in the result, and another run goes on from there. Rows that failed are an
// error too. It must be called once.
func (m *Mover) Run(ctx context.Context) (Result, error) {
	for {
		before := m.count(func(r *Result) { r.Held = 0 })
		m.cursor, m.batch, m.end, m.aside = metadata.UploadID{}, nil, false, nil
		group, working := errgroup.WithContext(ctx)
		for range m.cfg.Workers {
			group.Go(func() error { return m.work(working) })
		}
		err := group.Wait()
		if err == nil {
			err = m.finish(ctx)
		} else {
			m.abandon(working) // which has ended
		}
		after := m.count(nil)
		if err == nil && m.cfg.Mode != Verify && after.Rows != before.Rows {
			continue
		}
		if err == nil && after.Failed > 0 {
			err = fmt.Errorf("%d uploads failed, which the log names, the last one with: %w", after.Failed, m.failure)
		}
		return after, err
	}
}

// work takes row after row until the pass is over.
func (m *Mover) work(ctx context.Context) error {
	for {
		b, u, err := m.take(ctx)
		if err != nil || b == nil {
			return err
		}
		err = m.one(ctx, b, u)
		if err = errors.Join(err, m.done(ctx, b)); err != nil {
			return err
		}
	}
}

func (m *Mover) one(ctx context.Context, b *batch, u metadata.Movable) error {
	if !u.Claimed {
		m.count(func(r *Result) { r.Held++ })
		return nil
	}
	if m.skips(u.UploadID) {
		return nil
	}
	if err := m.wait(ctx, u.Size); err != nil {
		return err
	}
	c, o, err := m.move(ctx, u)
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("upload %v of workspace %v: %w", u.File, u.Workspace, err)
	case err != nil:
		m.fail(ctx, u.UploadID, err, &m.rowsFailed)
		return m.hopeless(&m.rowsFailed)
	case o != waits:
		m.note(u.UploadID, u.Size, o)
		return nil
	}
	m.count(func(*Result) { m.rowsFailed = 0 })
	if u.Content == nil {
		return m.flip(ctx, c)
	}
	return m.flip(ctx, m.keep(b, c)...)
}

// fail leaves a row that cannot be moved to the next run, so that one row does not
// keep all others, and counts it among those in a row.
func (m *Mover) fail(ctx context.Context, id metadata.UploadID, err error, inARow *int) {
	err = fmt.Errorf("upload %v of workspace %v: %w", id.File, id.Workspace, err)
	m.cfg.Logger.LogAttrs(ctx, slog.LevelError, "upload is not moved", slog.Any("error", err))
	m.count(func(r *Result) {
		r.Failed++
		m.skip[id], m.failure = true, err
		*inARow++
	})
}

// hopeless is the error that ends the run when too many rows failed in a row.
func (m *Mover) hopeless(inARow *int) (err error) {
	m.count(func(*Result) {
		if *inARow >= max(2, m.cfg.Workers) {
			err = m.failure
		}
	})
	return err
}

// wait takes a row's turn under the rate limits, before anything is held for it.
func (m *Mover) wait(ctx context.Context, size int64) error {
	if err := m.rows.Wait(ctx); err != nil {
		return fmt.Errorf("wait for the rate of rows: %w", err)
	}
	for ; size > 0 && m.cfg.BytesPerSecond > 0; size -= chunk {
		if err := m.bytes.WaitN(ctx, int(min(size, chunk))); err != nil {
			return fmt.Errorf("wait for the rate of bytes: %w", err)
		}
	}
	return nil
}

// outcome is what became of a row.
type outcome int

const (
	moved outcome = iota
	left
	corrupt
	waits // for its flip
)

func (m *Mover) note(id metadata.UploadID, size int64, o outcome) {
	m.count(func(r *Result) {
		m.rowsFailed, m.flipsFailed = 0, 0
		switch o {
		case moved:
			r.Rows++
			r.Bytes += size
		case left:
			r.Left++
		case corrupt:
			r.Corrupt++
			m.skip[id] = true
		}
		if m.cfg.Progress != nil {
			m.cfg.Progress(*r)
		}
	})
}

// count changes the result, and returns it.
func (m *Mover) count(change func(*Result)) Result {
	m.counting.Lock()
	defer m.counting.Unlock()
	if change != nil {
		change(&m.result)
	}
	return m.result
}

func (m *Mover) skips(id metadata.UploadID) bool {
	m.counting.Lock()
	defer m.counting.Unlock()
	return m.skip[id]
}
