// Package blobtest holds implementations of blob.Store to its contract, and those
// that are a blob.Header, blob.Presigner or blob.PartPresigner too to theirs. Adopt it in one line:
//
//	blobtest.Run(t, func(t *testing.T) blob.Store { return memblob.New() })
package blobtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"testing"

	"github.com/molecule-ai/pendinguploads/blob"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

// promise is one subtest.
type promise struct {
	name string
	run  func(*testing.T, fixture)
}

// Run runs the suite, one subtest a promise, in parallel. newStore is called
// once for each, and once before; it may return the same store every time,
// because every subtest works under a prefix of its own.
func Run(t *testing.T, newStore func(t *testing.T) blob.Store) {
	t.Helper()
	cases := []promise{
		{"what is put comes back, whatever its size", testSizes},
		{"a body may yield its last bytes together with its end", testDataWithEOF},
		{"a put replaces an older object", testOverwrite},
		{"a digest is asked for behind the body's end", testDigest},
		{"a wrong digest never becomes that of an object", testWrongDigest},
		{"concurrent puts of different keys all succeed", testConcurrentPuts},

		{"a range yields exactly its bytes", testRanges},
		{"a range beyond the end is ErrRange", testRangeBeyondEnd},
		{"opening an absent object is ErrNotFound", testOpenAbsent},

		{"a listing is complete, sorted and keeps to its prefix", testList},
		{"a listing can be left early", testListLeftEarly},
		{"a listing of nothing is empty", testListNothing},

		{"deleting many takes all of them and minds no absent one", testDeleteMany},
		{"deleting twice is fine", testDeleteTwice},
		{"deleting no keys is fine", testDeleteNone},

		{"a body's error is preserved and leaves nothing", testBodyError},
		{"a body cut off is no complete object", testBodyCutOff},
		{"a cancelled put leaves nothing", testCancelledPut},
		{"a put whose context ended before it began leaves nothing", testPutAfterCancel},

		{"a shared put that fails leaves what is there", testSharedFail},

		{"aborting an upload that is gone is fine", testAbortGone},
	}
	store := newStore(t)
	if _, ok := store.(blob.Header); ok {
		cases = append(cases, headerCases()...)
	}
	if _, ok := store.(blob.Presigner); ok {
		cases = append(cases, presignerCases()...)
	}
	if _, ok := store.(blob.PartPresigner); ok {
		cases = append(cases, partCases()...)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, fixture{Store: newStore(t), prefix: "blobtest/" + random(t) + "/"})
		})
	}
}

// fixture is the store under test and a prefix that no other subtest uses.
type fixture struct {
	blob.Store
	prefix string
}

// key returns a key under the subtest's prefix.
func (f fixture) key(name string) string { return f.prefix + name }

// put stores a body that must be taken.
func (f fixture) put(t *testing.T, key string, body io.Reader) {
	t.Helper()
	if err := f.Put(t.Context(), key, body, blob.PutOptions{ContentType: "application/octet-stream"}); err != nil {
		t.Fatalf("Put(%s): %v", key, err)
	}
}

// read opens a range that must be there and reads it to its end.
func (f fixture) read(t *testing.T, key string, offset, length int64) []byte {
	t.Helper()
	r, err := f.Open(t.Context(), key, offset, length)
	if err != nil {
		t.Fatalf("Open(%s, %d, %d): %v", key, offset, length, err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read %s from %d, %d bytes: %v", key, offset, length, err)
	}
	return b
}

// list returns what is listed under prefix.
func (f fixture) list(t *testing.T, prefix string) []blob.Object {
	t.Helper()
	var objects []blob.Object
	for o, err := range f.List(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("List(%s): %v", prefix, err)
		}
		objects = append(objects, o)
	}
	return objects
}

// empty fails the test if anything is left under its prefix: an object that can
// be opened or listed, or an unfinished upload.
func (f fixture) empty(t *testing.T, keys ...string) {
	t.Helper()
	for _, key := range keys {
		f.absent(t, key)
	}
	for _, o := range f.list(t, f.prefix) {
		t.Errorf("object %s of %d bytes is left", o.Key, o.Size)
	}
	for u, err := range f.ListUnfinished(t.Context(), f.prefix) {
		if err != nil {
			t.Fatalf("ListUnfinished(%s): %v", f.prefix, err)
		}
		t.Errorf("unfinished upload %s of %s is left", u.UploadID, u.Key)
	}
}

// absent fails the test if key can be opened.
func (f fixture) absent(t *testing.T, key string) {
	t.Helper()
	r, err := f.Open(t.Context(), key, 0, 0)
	if err == nil {
		r.Close()
	}
	if !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("Open(%s) = %v, want ErrNotFound", key, err)
	}
}

// cancellable returns a context that a body can end.
func cancellable(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx, cancel
}

func random(t *testing.T) string {
	t.Helper()
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b[:])
}
