package blobtest

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"sync"
)

// period is the length after which content repeats. It divides no part size, so
// that parts in the wrong order do not read the same.
const period = mib + 7

// block is the repeated content.
var block = sync.OnceValue(func() []byte {
	b := make([]byte, period)
	rng := rand.NewChaCha8([32]byte{'b', 'l', 'o', 'b'})
	_, _ = rng.Read(b) // never fails
	return b
})

// readSizes are what reads of a body yield at most, in turn: like a multipart
// parser's, never what was asked for.
var readSizes = [...]int{1, 4095, 32769, 7, 65537, 131071}

// body returns size bytes as a reader of nothing but io.Reader, so that no
// length can be told, which yields them in odd pieces.
func body(size int64) io.Reader { return &content{left: size} }

type content struct {
	off, left int64
	turn      int
}

func (c *content) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), int64(readSizes[c.turn%len(readSizes)]), c.left, period-c.off%period)
	c.turn++
	copy(p, block()[c.off%period:][:n])
	c.off += n
	c.left -= n
	return int(n), nil
}

// bytesAt returns what a body has from offset on.
func bytesAt(offset, length int64) []byte {
	out := make([]byte, 0, length)
	for int64(len(out)) < length {
		rest := block()[(offset+int64(len(out)))%period:]
		out = append(out, rest[:min(int64(len(rest)), length-int64(len(out)))]...)
	}
	return out
}

// then runs f once when r has ended, and then ends like f's reader.
func then(r io.Reader, f func() io.Reader) io.Reader {
	return io.MultiReader(r, &late{open: sync.OnceValue(f)})
}

type late struct{ open func() io.Reader }

func (l *late) Read(p []byte) (int, error) { return l.open().Read(p) }

// otherBody has the size of a body and another content.
func otherBody(size int64) io.Reader { return &content{off: 1, left: size} }

func base64SHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return base64.StdEncoding.EncodeToString(sum[:])
}
