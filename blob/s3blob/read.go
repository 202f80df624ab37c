package s3blob

import (
	"context"
	"io"
)

// maxEmptyReads is how many reads in a row may yield nothing before the body
// counts as broken, as in package bufio.
const maxEmptyReads = 100

// bodyReader cuts a body into parts. It looks one byte ahead, so that it knows
// whether a part is the last one. io.ReadFull would not do: it answers
// io.ErrUnexpectedEOF for a body that ends, which is what a body answers that
// was cut off.
type bodyReader struct {
	r     io.Reader
	ahead [1]byte
	has   bool // ahead holds a byte that belongs to the next part
}

// fill reads until buf is full or the body ends. more says that there is at
// least one byte behind what it read. The error is the body's own, or the cause
// of ctx's end.
func (b *bodyReader) fill(ctx context.Context, buf []byte) (n int, more bool, err error) {
	if b.has {
		n = copy(buf, b.ahead[:])
		b.has = false
	}
	m, err := b.read(ctx, buf[n:])
	n += m
	if err != nil || n < len(buf) {
		return n, false, err
	}
	m, err = b.read(ctx, b.ahead[:])
	b.has = m == 1
	return n, b.has, err
}

// read fills buf as far as the body goes; the body's end is no error.
func (b *bodyReader) read(ctx context.Context, buf []byte) (n int, err error) {
	for empty := 0; n < len(buf); {
		if ctx.Err() != nil {
			return n, context.Cause(ctx)
		}
		m, err := b.r.Read(buf[n:])
		n += m
		switch {
		case err == io.EOF:
			return n, nil
		case err != nil:
			return n, err
		case m > 0:
			empty = 0
		case empty == maxEmptyReads:
			return n, io.ErrNoProgress
		default:
			empty++
		}
	}
	return n, nil
}
