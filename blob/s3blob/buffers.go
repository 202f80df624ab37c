package s3blob

import (
	"context"

	"github.com/molecule-ai/pendinguploads/blob"
)

// partBuffers are the buffers of one upload. Each is with the reader of the
// body, on its way in a request, or free.
type partBuffers struct {
	pool  *blob.Pool
	limit int // most buffers to own
	owned int
	free  chan *blob.Buffer // has room for limit
}

// next returns a buffer to read into: a free one, or a further one if the pool
// has it at once, or the first that comes back. It never waits for another
// upload. The error is the cause of ctx's end.
func (p *partBuffers) next(ctx context.Context) (*blob.Buffer, error) {
	select {
	case b := <-p.free:
		return b, nil
	default:
	}
	if p.owned < p.limit {
		if b, ok := p.pool.TryGet(); ok {
			p.owned++
			return b, nil
		}
	}
	select {
	case b := <-p.free:
		return b, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// giveBack makes a buffer free. It never blocks.
func (p *partBuffers) giveBack(b *blob.Buffer) { p.free <- b }

// drain returns every buffer to the pool as it comes free, so that others need
// not wait for the last one.
func (p *partBuffers) drain() {
	for ; p.owned > 0; p.owned-- {
		p.pool.Put(<-p.free)
	}
}
