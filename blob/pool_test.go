package blob_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/molecule-ai/pendinguploads/blob"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	part    = 1000
	maxWait = 10 * time.Second
)

// newPool returns a pool with a budget of that many buffers.
func newPool(t *testing.T, buffers int64) *blob.Pool {
	t.Helper()
	p, err := blob.NewPool(blob.PoolConfig{PartBytes: part, BudgetBytes: buffers * part, MaxWait: maxWait})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func get(t *testing.T, p *blob.Pool) *blob.Buffer {
	t.Helper()
	b, err := p.Get(t.Context())
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	return b
}

func TestNewPoolRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	for _, cfg := range []blob.PoolConfig{
		{PartBytes: -1},
		{PartBytes: blob.MaxPartBytes + 1},
		{PartBytes: 100, BudgetBytes: 99},
		{PartBytes: 100, BudgetBytes: 300, ReservableBytes: 201},
		{ReservableBytes: -1},
		{MaxWait: -1},
	} {
		if _, err := blob.NewPool(cfg); err == nil {
			t.Errorf("NewPool(%+v) succeeded", cfg)
		}
	}
	p, err := blob.NewPool(blob.PoolConfig{})
	if err != nil || p.PartBytes() != blob.DefaultPartBytes || p.BudgetBytes() != blob.DefaultBudgetBytes {
		t.Errorf("defaults: %v, %v", p, err)
	}
}

func TestGetIsBusyAfterMaxWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 2)
		a, b := get(t, p), get(t, p)
		start := time.Now()
		_, err := p.Get(t.Context())
		if !errors.Is(err, blob.ErrBusy) || time.Since(start) != maxWait {
			t.Errorf("Get = %v after %v, want ErrBusy after %v", err, time.Since(start), maxWait)
		}
		if _, err := p.Reserve(t.Context(), 1); !errors.Is(err, blob.ErrBusy) {
			t.Errorf("Reserve = %v, want ErrBusy", err)
		}
		if _, ok := p.TryGet(); ok {
			t.Error("TryGet got a buffer above the budget")
		}
		p.Put(a)
		p.Put(b)
		p.Put(get(t, p))
	})
}

func TestGetEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 1)
		held := get(t, p)
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() {
			_, err := p.Get(ctx)
			failed <- err
		}()
		synctest.Wait()
		if w := p.Stats().Waiting; w != 1 {
			t.Errorf("%d callers wait, want 1", w)
		}
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) || errors.Is(err, blob.ErrBusy) {
			t.Errorf("Get = %v, want context.Canceled", err)
		}
		if _, err := p.Get(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Get with an ended context = %v, want context.Canceled", err)
		}
		p.Put(held)
		if s := p.Stats(); s.Waiting != 0 || s.InUseBytes != 0 {
			t.Errorf("afterwards: %+v", s)
		}
	})
}

func TestWaitersAreServedInTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 3)
		a, b, c := get(t, p), get(t, p), get(t, p)
		defer p.Put(c)
		var order []string
		var group sync.WaitGroup
		// The first waiter wants all that it can: a small one behind it must not pass.
		group.Go(func() {
			release, err := p.Reserve(t.Context(), 2*part)
			if err != nil {
				t.Error(err)
				return
			}
			order = append(order, "all")
			release()
		})
		synctest.Wait()
		group.Go(func() {
			buf, err := p.Get(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			order = append(order, "one")
			p.Put(buf)
		})
		synctest.Wait()
		p.Put(a)
		synctest.Wait()
		if len(order) != 0 {
			t.Errorf("served %v while the first waiter still waits", order)
		}
		p.Put(b)
		group.Wait()
		if got := fmt.Sprint(order); got != "[all one]" {
			t.Errorf("served %v, want the first waiter first", got)
		}
	})
}

func TestReserveAboveTheBudgetIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	p := newPool(t, 2)
	if _, err := p.Reserve(t.Context(), part+1); !errors.Is(err, blob.ErrOverBudget) {
		t.Errorf("Reserve = %v, want ErrOverBudget", err)
	}
	if _, err := p.Reserve(t.Context(), -1); err == nil {
		t.Error("a negative reservation was granted")
	}
}

func TestReservationsLeaveRoomForABuffer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 4)
		// As many as get one hold a reservation and wait for a buffer; one more
		// waits for its reservation. Nobody may end up waiting for nobody.
		var group sync.WaitGroup
		for range 5 {
			group.Go(func() {
				release, err := p.Reserve(t.Context(), part)
				if err != nil {
					t.Error(err)
					return
				}
				defer release()
				time.Sleep(time.Second) // until all that can have one
				b, err := p.Get(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Second)
				p.Put(b)
			})
		}
		group.Wait()
	})
}

// All that reservations may have is taken, and its holders want buffers for longer
// than anybody waits: with half the budget left to buffers none is turned away.
func TestReservationsAreLimitedToTheirShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, err := blob.NewPool(blob.PoolConfig{PartBytes: part, BudgetBytes: 8 * part, ReservableBytes: 4 * part, MaxWait: maxWait})
		if err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				release, err := p.Reserve(t.Context(), part)
				if err != nil {
					t.Error(err)
					return
				}
				defer release()
				b, err := p.Get(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(2 * maxWait) // a slow body
				p.Put(b)
			})
		}
		synctest.Wait()
		if _, err := p.Reserve(t.Context(), part); !errors.Is(err, blob.ErrBusy) {
			t.Errorf("a reservation beyond the share: %v, want ErrBusy", err)
		}
		group.Wait()
		if _, err := p.Reserve(t.Context(), 4*part+1); !errors.Is(err, blob.ErrOverBudget) {
			t.Errorf("a reservation larger than the share: %v, want ErrOverBudget", err)
		}
	})
}

func TestReservationsAndBuffersShareTheBudget(t *testing.T) {
	t.Parallel()
	p := newPool(t, 4)
	a, b := get(t, p), get(t, p)
	p.Put(a)
	p.Put(b)
	if s := p.Stats(); s.IdleBytes != 2*part || s.InUseBytes != 0 {
		t.Errorf("two buffers are back: %+v", s)
	}
	release, err := p.Reserve(t.Context(), 3*part)
	if err != nil {
		t.Fatal(err)
	}
	if s := p.Stats(); s.IdleBytes != part || s.InUseBytes != 3*part {
		t.Errorf("idle buffers must make room for a reservation: %+v", s)
	}
	release()
	release()
	if s := p.Stats(); s.InUseBytes != 0 {
		t.Errorf("released twice: %+v", s)
	}
}

func TestBuffersAreReusedUntilTheyLieIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 8)
		a, b := get(t, p), get(t, p)
		p.Put(a)
		p.Put(b)
		if again := get(t, p); again != b {
			t.Error("the buffer used last was not taken first")
		}
		p.Put(b)
		for range 10 { // more than two windows, with one buffer in use now and then
			time.Sleep(9 * time.Second)
			p.Put(get(t, p))
		}
		if s := p.Stats(); s.IdleBytes != part {
			t.Errorf("%d bytes idle, want the one buffer that is in use", s.IdleBytes)
		}
		time.Sleep(2 * time.Minute)
		if s := p.Stats(); s.IdleBytes != 0 {
			t.Errorf("%d bytes idle after a quiet time, want 0", s.IdleBytes)
		}
		p.Put(get(t, p))
		time.Sleep(2 * time.Minute)
	})
}

func TestTryGetLeavesThreeQuartersForFirstBuffers(t *testing.T) {
	t.Parallel()
	p := newPool(t, 8)
	a := get(t, p)
	b, ok := p.TryGet()
	if !ok {
		t.Fatal("TryGet found nothing in the first quarter")
	}
	if _, ok := p.TryGet(); ok {
		t.Error("TryGet took from what is kept for first buffers")
	}
	c := get(t, p)
	for _, buf := range []*blob.Buffer{a, b, c} {
		if len(buf.Bytes()) != part {
			t.Errorf("a buffer of %d bytes, want %d", len(buf.Bytes()), part)
		}
		p.Put(buf)
	}
}

func TestPutTwicePanics(t *testing.T) {
	t.Parallel()
	p := newPool(t, 2)
	b := get(t, p)
	p.Put(b)
	defer func() {
		if recover() == nil {
			t.Error("putting a buffer back twice did not panic")
		}
	}()
	p.Put(b)
}

func TestUseNeverExceedsTheBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, 4)
		var group sync.WaitGroup
		for i := range 50 {
			group.Go(func() {
				if i%3 == 0 {
					release, err := p.Reserve(t.Context(), part/2)
					if err != nil {
						t.Error(err)
						return
					}
					time.Sleep(time.Millisecond)
					release()
					return
				}
				b, err := p.Get(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Millisecond)
				if s := p.Stats(); s.InUseBytes+s.IdleBytes > s.BudgetBytes {
					t.Errorf("above the budget: %+v", s)
				}
				p.Put(b)
			})
		}
		group.Wait()
		if s := p.Stats(); s.InUseBytes != 0 || s.Waiting != 0 {
			t.Errorf("afterwards: %+v", s)
		}
	})
}
