// Package storagetest holds implementations of storage.Storage and
// storage.Sweeper to the promises of package storage: a subtest a sentence.
// An implementation adopts it in one line:
//
//	storagetest.Run(t, open)
//
// where open makes a fresh, empty store for each subtest. Subtests run in
// parallel. A store that mixes placements is held to both when it keeps files up
// to some size below 200 KiB inline.
package storagetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
	"time"

	"github.com/molecule-ai/pendinguploads/storage"
)

// Options is what a subtest wants of its store.
type Options struct {
	Limits       storage.Limits // zero: the defaults
	ReadAfterAck bool

	// OneUpload asks for memory in which one upload of a small file finds room
	// and a second one does not, with a short wait for it. Otherwise: plenty.
	OneUpload bool

	// BeforeCommit, when set, is called after all bytes of a batch are durable
	// and before its rows commit. An error makes the commit fail.
	BeforeCommit func(ctx context.Context) error

	// Discarding, when set, is called by Sweep after objects were deleted and
	// before their rows are; an error ends the sweep there, as a crash would.
	Discarding func(ctx context.Context) error
}

// Harness is a store under test and the views on it that the suite needs.
type Harness struct {
	Storage storage.Storage
	Sweeper storage.Sweeper

	// Rows counts the rows of a workspace in any state.
	Rows func(t *testing.T, ws storage.WorkspaceID) int

	// Age makes a row look d older: every time it holds moves into the past.
	Age func(t *testing.T, ws storage.WorkspaceID, f storage.FileID, d time.Duration)

	// Expire makes a row's ExpiresAt pass, and no other of its times.
	Expire func(t *testing.T, ws storage.WorkspaceID, f storage.FileID)

	// Objects lists the keys in the object store, unfinished uploads included.
	// Nil when content is never in one.
	Objects func(t *testing.T) []string

	// PutObject stores bytes under a raw key, beside the Storage; Key shapes the
	// key that a file would have. Nil with Objects.
	PutObject func(t *testing.T, key string)
	Key       func(ws storage.WorkspaceID, f storage.FileID) string

	// PutUnfinished begins an upload under a raw key and neither completes nor
	// aborts it. Nil where the object store has no such thing, and with Objects.
	PutUnfinished func(t *testing.T, key string)

	// URLs says that content in the object store has URLs, which the test can
	// reach.
	URLs bool

	// AgeObjects makes all objects, and unfinished uploads, look d older to the
	// Sweeper. Nil with Objects.
	AgeObjects func(d time.Duration)
}

// Open makes a fresh store that shares nothing with any other.
type Open func(t *testing.T, o Options) Harness

// Run runs the suite.
func Run(t *testing.T, open Open) {
	t.Helper()
	for _, group := range [][]subtest{putTests, batchTests, readTests, handoutTests, urlTests, ackTests, sweepTests, orphanTests, memoryTests} {
		for _, st := range group {
			t.Run(st.name, func(t *testing.T) {
				t.Parallel()
				st.run(t, open)
			})
		}
	}
}

// large is a size in bytes that a store which mixes placements must not keep
// inline.
const large = 200 << 10

type subtest struct {
	name string
	run  func(t *testing.T, open Open)
}

func newWorkspace(t *testing.T) storage.WorkspaceID {
	t.Helper()
	id, err := storage.NewFileID()
	if err != nil {
		t.Fatal(err)
	}
	return storage.WorkspaceID(id)
}

func newFile(t *testing.T) storage.FileID {
	t.Helper()
	id, err := storage.NewFileID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// noise is n reproducible bytes that do not compress.
func noise(n int) []byte {
	b := make([]byte, n)
	src := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16), 1})
	_, _ = src.Read(b)
	return b
}

// file is an upload whose body gives no hint of its length.
func file(name string, content []byte) storage.Upload {
	return storage.Upload{Filename: name, MIMEType: "text/plain", Body: iotest.HalfReader(io.MultiReader(bytes.NewReader(content)))}
}

func put(t *testing.T, h Harness, ws storage.WorkspaceID, content []byte) storage.Record {
	t.Helper()
	r, err := h.Storage.Put(t.Context(), ws, file("a.bin", content))
	if err != nil {
		t.Fatalf("Put of %d bytes: %v", len(content), err)
	}
	return r
}

func read(t *testing.T, c storage.Content, span storage.Range) []byte {
	t.Helper()
	rc, err := c.Open(t.Context(), span)
	if err != nil {
		t.Fatalf("Open %+v: %v", span, err)
	}
	defer func() { _ = rc.Close() }()
	b, err := io.ReadAll(rc)
	if err != nil {
		t.Fatalf("read %+v: %v", span, err)
	}
	return b
}

func wantContent(t *testing.T, r storage.Record, want []byte) {
	t.Helper()
	if r.Content.Size != int64(len(want)) || r.Content.SHA256 != sha256.Sum256(want) {
		t.Errorf("record says %d bytes, SHA-256 %v; want %d, %x", r.Content.Size, r.Content.SHA256, len(want), sha256.Sum256(want))
	}
	if got := read(t, r.Content, storage.Range{}); !bytes.Equal(got, want) {
		t.Errorf("content differs: %d bytes, want %d", len(got), len(want))
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// wantNothing checks that a failed upload left neither rows nor objects.
func wantNothing(t *testing.T, h Harness, ws storage.WorkspaceID) {
	t.Helper()
	if n := h.Rows(t, ws); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	if h.Objects == nil {
		return
	}
	if keys := h.Objects(t); len(keys) != 0 {
		t.Errorf("objects are left: %v", keys)
	}
}

func sweep(t *testing.T, h Harness, retention time.Duration) storage.SweepResult {
	t.Helper()
	r, err := h.Sweeper.Sweep(t.Context(), retention, 100)
	if err != nil {
		t.Fatalf("Sweep: %v", err)
	}
	return r
}

func wantSwept(t *testing.T, got, want storage.SweepResult) {
	t.Helper()
	if got != want {
		t.Errorf("swept %+v, want %+v", got, want)
	}
}
