package blobtest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/molecule-ai/pendinguploads/blob"
)

// sizes lie around the default part size, above one chunk of the SDK, and at the
// caps for a file.
var sizes = []int64{0, 1, 5*mib - 1, 5 * mib, 5*mib + 1, 10 * mib, 16*mib + 1, 25 * mib, 100 * mib}

func testSizes(t *testing.T, f fixture) {
	for _, size := range sizes {
		key := f.key(fmt.Sprint(size))
		f.put(t, key, body(size))
		f.holds(t, key, size)
	}
	want := make(map[string]int64)
	for _, size := range sizes {
		want[f.key(fmt.Sprint(size))] = size
	}
	got := make(map[string]int64)
	for _, o := range f.list(t, f.prefix) {
		got[o.Key] = o.Size
		if o.LastModified.IsZero() {
			t.Errorf("%s has no LastModified", o.Key)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("listed sizes (-want +got):\n%s", diff)
	}
}

func testDataWithEOF(t *testing.T, f fixture) {
	for _, size := range []int64{1, 5 * mib, 5*mib + 1} {
		key := f.key(fmt.Sprint(size))
		f.put(t, key, iotest.DataErrReader(body(size)))
		f.holds(t, key, size)
	}
}

func testOverwrite(t *testing.T, f fixture) {
	key := f.key("a")
	for _, size := range []int64{6 * mib, 3, 7 * mib} {
		f.put(t, key, body(size))
		f.holds(t, key, size)
	}
}

// digestSizes are those of objects in one request and in parts.
var digestSizes = []int64{0, 1, 5 * mib, 5*mib + 1}

func testDigest(t *testing.T, f fixture) {
	for _, size := range digestSizes {
		for _, kept := range []bool{false, true} {
			key := f.key(fmt.Sprint(size, kept))
			var read bytes.Buffer
			err := f.Put(t.Context(), key, io.TeeReader(body(size), &read), blob.PutOptions{SHA256: kept, Digest: func() [sha256.Size]byte {
				if n := int64(read.Len()); n != size {
					t.Errorf("asked for the digest of %d bytes after %d", size, n)
				}
				return sha256.Sum256(read.Bytes())
			}})
			if err != nil {
				t.Fatalf("Put(%s): %v", key, err)
			}
			f.holds(t, key, size)
		}
	}
}

func testWrongDigest(t *testing.T, f fixture) {
	wrong := func() [sha256.Size]byte { return sha256.Sum256([]byte("wrong")) }
	for _, size := range digestSizes {
		for _, kept := range []bool{false, true} {
			key := f.key(fmt.Sprint(size, kept))
			if err := f.Put(t.Context(), key, body(size), blob.PutOptions{SHA256: kept, Digest: wrong}); err != nil {
				f.absent(t, key)
				continue
			}
			f.holds(t, key, size)
			if header, ok := f.Store.(blob.Header); ok {
				info, err := header.Head(t.Context(), key)
				if err != nil {
					t.Fatal(err)
				}
				if info.SHA256 != nil && *info.SHA256 == wrong() {
					t.Errorf("%s has the wrong digest", key)
				}
			}
		}
	}
}

func testConcurrentPuts(t *testing.T, f fixture) {
	var group errgroup.Group
	size := func(i int) int64 {
		if i%2 == 0 {
			return 12*mib + int64(i)
		}
		return 4*kib + int64(i)
	}
	const puts = 10
	for i := range puts {
		group.Go(func() error {
			return f.Put(t.Context(), f.key(fmt.Sprint(i)), body(size(i)), blob.PutOptions{})
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for i := range puts {
		f.holds(t, f.key(fmt.Sprint(i)), size(i))
	}
}

// holds fails the test unless key holds a body of that size.
func (f fixture) holds(t *testing.T, key string, size int64) {
	t.Helper()
	r, err := f.Open(t.Context(), key, 0, 0)
	if err != nil {
		t.Fatalf("Open(%s): %v", key, err)
	}
	defer r.Close()
	got, n := digest(t, r)
	want, _ := digest(t, body(size))
	if n != size || got != want {
		t.Errorf("%s: read %d bytes with SHA-256 %.8s, want %d with %.8s", key, n, got, size, want)
	}
}

// digest reads r to its end.
func digest(t *testing.T, r io.Reader) (sum string, n int64) {
	t.Helper()
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		t.Fatalf("after %d bytes: %v", n, err)
	}
	return fmt.Sprintf("%x", h.Sum(nil)), n
}
