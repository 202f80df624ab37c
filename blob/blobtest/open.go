package blobtest

import (
	"bytes"
	"errors"
	"testing"

	"github.com/molecule-ai/pendinguploads/blob"
)

func testRanges(t *testing.T, f fixture) {
	const size = 6*mib + 3 // two parts
	key := f.key("a")
	f.put(t, key, body(size))
	for _, c := range []struct {
		name           string
		offset, length int64
		want           int64 // bytes
	}{
		{"first byte", 0, 1, 1},
		{"last byte", size - 1, 1, 1},
		{"last byte, open end", size - 1, 0, 1},
		{"middle", 1000, 4096, 4096},
		{"across parts", 5*mib - 10, 20, 20},
		{"from the middle on", 6 * mib, 0, 3},
		{"whole by length", 0, size, size},
		{"longer than what is left", size - 5, 100, 5},
		{"longer than everything", 0, size + 1, size},
	} {
		got := f.read(t, key, c.offset, c.length)
		if !bytes.Equal(got, bytesAt(c.offset, c.want)) {
			t.Errorf("%s: %d bytes that differ, want %d", c.name, len(got), c.want)
		}
	}
}

func testRangeBeyondEnd(t *testing.T, f fixture) {
	const size = 10
	key := f.key("a")
	f.put(t, key, body(size))
	for _, c := range []struct{ offset, length int64 }{
		{size, 0}, {size, 1}, {size + 100, 5}, {-1, 0}, {0, -1},
	} {
		r, err := f.Open(t.Context(), key, c.offset, c.length)
		if err == nil {
			r.Close()
		}
		if !errors.Is(err, blob.ErrRange) {
			t.Errorf("Open(%d, %d) of %d bytes = %v, want ErrRange", c.offset, c.length, size, err)
		}
	}
}

func testOpenAbsent(t *testing.T, f fixture) {
	f.absent(t, f.key("a"))
	r, err := f.Open(t.Context(), f.key("a"), 5, 10)
	if err == nil {
		r.Close()
	}
	if !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("a range of an absent object: %v, want ErrNotFound", err)
	}
}
