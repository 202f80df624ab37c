package staging_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/memblob"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

func workspace(t *testing.T) storage.WorkspaceID {
	t.Helper()
	id, err := storage.NewFileID()
	if err != nil {
		t.Fatal(err)
	}
	return storage.WorkspaceID(id)
}

// newStore is a store over real rows and the given objects.
func newStore(t *testing.T, rows staging.Rows, objects blob.Store) *staging.Store {
	t.Helper()
	s, err := staging.New(staging.Config{
		Rows: rows, Objects: objects, KeyPrefix: prefix, ReadPatience: 2 * time.Second, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newRows(t *testing.T) *metadata.Uploads {
	t.Helper()
	return metadata.NewUploads(metadata.UploadsConfig{DB: openDB(t)})
}

// lossy loses the answer of a commit, after it took effect or instead of it.
type lossy struct {
	*metadata.Uploads
	commits bool
}

func (l lossy) Insert(ctx context.Context, ws storage.WorkspaceID, uploads []metadata.NewUpload) ([]storage.Record, error) {
	if l.commits {
		if _, err := l.Uploads.Insert(ctx, ws, uploads); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: connection reset", metadata.ErrCommitUnknown)
}

func TestACommitWhoseAnswerIsLostIsFoundByLooking(t *testing.T) {
	t.Parallel()
	objects := memblob.New()
	s := newStore(t, lossy{newRows(t), true}, objects)
	ws := workspace(t)
	r, err := s.Put(t.Context(), ws, storage.Upload{Filename: "a", Body: strings.NewReader("hello")})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(t.Context(), ws, r.FileID); err != nil || got.Content.Size != 5 || len(keysOf(t, objects)) != 1 {
		t.Errorf("%+v, %v, objects %v", got, err, keysOf(t, objects))
	}
}

// late takes until the caller's time is over, and commits all the same.
type late struct{ *metadata.Uploads }

func (l late) Insert(ctx context.Context, ws storage.WorkspaceID, uploads []metadata.NewUpload) ([]storage.Record, error) {
	if _, err := l.Uploads.Insert(context.WithoutCancel(ctx), ws, uploads); err != nil {
		return nil, err
	}
	<-ctx.Done()
	return nil, fmt.Errorf("%w: %w", metadata.ErrCommitUnknown, ctx.Err())
}

func TestACommitThatTookAllItsTimeIsLookedFor(t *testing.T) {
	t.Parallel()
	s := newStore(t, late{newRows(t)}, memblob.New())
	if _, err := s.Put(t.Context(), workspace(t), storage.Upload{Filename: "a", Body: strings.NewReader("hello")}); err != nil {
		t.Errorf("the rows are there: %v", err)
	}
}

// timed notes how much time an insert has.
type timed struct {
	*metadata.Uploads
	has time.Duration
}

func (r *timed) Insert(ctx context.Context, ws storage.WorkspaceID, uploads []metadata.NewUpload) ([]storage.Record, error) {
	ends, _ := ctx.Deadline()
	r.has = time.Until(ends)
	return r.Uploads.Insert(ctx, ws, uploads)
}

// A slow database has a second for each MiB of inline content. Rows that cite
// objects have 15 s, which orphan sweeps count on.
func TestAnInsertHasTimeForItsContent(t *testing.T) {
	t.Parallel()
	rows := &timed{Uploads: newRows(t)}
	pool, err := blob.NewPool(blob.PoolConfig{BudgetBytes: 512 << 20})
	if err != nil {
		t.Fatal(err)
	}
	open := func(inlineMax int64) *staging.Store {
		s, err := staging.New(staging.Config{
			Rows: rows, Objects: memblob.New(), Budget: pool, InlineMaxBytes: inlineMax, KeyPrefix: prefix, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for name, c := range map[string]struct {
		inlineMax   int64
		sizes       []int
		most, least time.Duration
	}{
		"small":            {storage.MiB, []int{10}, 15 * time.Second, 10 * time.Second},
		"large":            {20 * storage.MiB, []int{20 * storage.MiB, 10 * storage.MiB}, 45 * time.Second, 40 * time.Second},
		"beside an object": {storage.MiB, []int{storage.MiB, storage.MiB, 2 * storage.MiB}, 15 * time.Second, 10 * time.Second},
	} {
		var uploads []storage.Upload
		for _, size := range c.sizes {
			uploads = append(uploads, storage.Upload{Filename: "a", Body: bytes.NewReader(make([]byte, size))})
		}
		if _, err := open(c.inlineMax).PutBatch(t.Context(), workspace(t), storage.Batch{Uploads: storage.Files(uploads...)}); err != nil {
			t.Fatal(name, err)
		}
		if rows.has > c.most || rows.has < c.least {
			t.Errorf("%s: %v, want %v to %v", name, rows.has, c.least, c.most)
		}
	}
}

func TestObjectsOfAnUncertainCommitAreLeftToTheOrphanSweep(t *testing.T) {
	t.Parallel()
	objects := memblob.New()
	s := newStore(t, lossy{newRows(t), false}, objects)
	_, err := s.Put(t.Context(), workspace(t), storage.Upload{Filename: "a", Body: strings.NewReader("hello")})
	if !errors.Is(err, metadata.ErrCommitUnknown) {
		t.Fatalf("%v, want ErrCommitUnknown", err)
	}
	if n := len(keysOf(t, objects)); n != 1 {
		t.Errorf("%d objects, want the one that a row may cite", n)
	}
}

// gate holds every put until the wanted number of them is in flight.
type gate struct {
	blob.Store
	want   int
	mu     sync.Mutex
	inside int
	open   chan struct{}
}

func (g *gate) Put(ctx context.Context, key string, body io.Reader, opts blob.PutOptions) error {
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	g.mu.Lock()
	if g.inside++; g.inside == g.want {
		close(g.open)
	}
	g.mu.Unlock()
	select {
	case <-g.open:
	case <-ctx.Done():
		return ctx.Err()
	}
	return g.Store.Put(ctx, key, bytes.NewReader(b), opts)
}

// The object store's clock is far behind: what it dates a day back was put just now
// and waits for the commit of its row.
func TestAClockThatIsBehindMakesNoOrphans(t *testing.T) {
	t.Parallel()
	f, err := storage.NewFileID()
	if err != nil {
		t.Fatal(err)
	}
	objects := memblob.New()
	key := prefix + "/" + workspace(t).String() + "/" + f.String()
	putObject(t, objects, key)
	if err := objects.SetModified(key, time.Now().Add(-24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	s := newStore(t, newRows(t), objects)
	if r, err := s.SweepOrphans(t.Context(), time.Hour); err != nil || r.Total() != 0 {
		t.Errorf("%+v, %v; want nothing", r, err)
	}
	if keys := keysOf(t, objects); len(keys) != 1 {
		t.Errorf("objects %v, want %s", keys, key)
	}
}

func TestFilesOfABatchArePutSideBySide(t *testing.T) {
	t.Parallel()
	g := &gate{Store: memblob.New(), want: 4, open: make(chan struct{})}
	s := newStore(t, newRows(t), g)
	var uploads []storage.Upload
	for i := range 6 {
		uploads = append(uploads, storage.Upload{Filename: fmt.Sprint(i), Body: strings.NewReader(fmt.Sprint("content ", i))})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := s.PutBatch(ctx, workspace(t), storage.Batch{Uploads: storage.Files(uploads...)}); err != nil {
		t.Fatalf("fewer than %d puts were in flight: %v", g.want, err)
	}
}

// buffered is an object store that holds a part buffer while it puts.
type buffered struct {
	blob.Store
	pool *blob.Pool
}

func (b buffered) Put(ctx context.Context, key string, body io.Reader, opts blob.PutOptions) error {
	buf, err := b.pool.Get(ctx)
	if err != nil {
		return err
	}
	defer b.pool.Put(buf)
	return b.Store.Put(ctx, key, body, opts)
}

// All memory that may go to inline content is reserved, and every batch that has
// some is in the middle of a file for the object store. Those go on side by side,
// and the batches behind them come in when they are done.
func TestSaturatedByReservationsFilesStillFindBuffers(t *testing.T) {
	t.Parallel()
	const part, share, batches = staging.InlineCopies << 10, 4, 10
	pool, err := blob.NewPool(blob.PoolConfig{PartBytes: part, BudgetBytes: 2 * share * part, ReservableBytes: share * part, MaxWait: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	s, err := staging.New(staging.Config{
		Rows: newRows(t), Objects: buffered{memblob.New(), pool}, Budget: pool, InlineMaxBytes: 16, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var reserved, inside atomic.Int32
	saturated, all := make(chan struct{}), make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		defer close(saturated)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for int(reserved.Load())+pool.Stats().Waiting < batches && ctx.Err() == nil {
			<-tick.C
		}
	})
	for range batches {
		group.Go(func() {
			small := io.MultiReader(strings.NewReader("inline"), readerFunc(func([]byte) (int, error) {
				reserved.Add(1)
				<-saturated // every other batch has its reservation or waits for it
				return 0, io.EOF
			}))
			large := io.MultiReader(bytes.NewReader(make([]byte, 100)), readerFunc(func([]byte) (int, error) {
				if inside.Add(1) == share {
					close(all)
				}
				select {
				case <-all:
					return 0, io.EOF
				case <-ctx.Done():
					return 0, ctx.Err()
				}
			}))
			_, err := s.PutBatch(ctx, workspace(t), storage.Batch{MaxBytes: part / staging.InlineCopies, Uploads: storage.Files(
				storage.Upload{Filename: "small", Body: small},
				storage.Upload{Filename: "large", Body: large})})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if st := pool.Stats(); st.InUseBytes != 0 {
		t.Errorf("%d bytes were not given back", st.InUseBytes)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestAnUploadThatTakesTooLongEnds(t *testing.T) {
	t.Parallel()
	objects := memblob.New()
	s, err := staging.New(staging.Config{
		Rows: newRows(t), Objects: &gate{Store: objects, want: 2, open: make(chan struct{})}, MaxUploadTime: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Put(t.Context(), workspace(t), storage.Upload{Filename: "a", Body: strings.NewReader("x")})
	if err == nil || !strings.Contains(err.Error(), "longer than allowed") {
		t.Errorf("%v", err)
	}
	if keys := keysOf(t, objects); len(keys) != 0 {
		t.Errorf("objects are left: %v", keys)
	}
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	rows := metadata.NewUploads(metadata.UploadsConfig{})
	for want, cfg := range map[string]staging.Config{
		"Rows":             {},
		"INLINE_MAX_BYTES": {Rows: rows, InlineMaxBytes: -1, Objects: memblob.New()},
		"Budget":           {Rows: rows},
		"S3_PREFIX":        {Rows: rows, Objects: memblob.New(), KeyPrefix: "/x"},
		"MAX_FILE_BYTES":   {Rows: rows, Objects: memblob.New(), Limits: storage.Limits{MaxFileBytes: 1 << 40, MaxRequestBytes: 1 << 41}},
	} {
		if _, err := staging.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error about %s", err, want)
		}
	}
}

// quick is an object store that has answered before anybody can wait for it.
type quick struct{ blob.Store }

func (quick) Put(_ context.Context, _ string, body io.Reader, _ blob.PutOptions) error {
	_, err := io.Copy(io.Discard, body)
	return err
}

// A failed put and the end of its body are known at the same moment: whichever
// is looked at first, the file must not count. The order is left to chance by the
// scheduler, so it is tried often.
func TestABodyThatBreaksIsNeverTakenForAWholeFile(t *testing.T) {
	t.Parallel()
	s := newStore(t, newRows(t), quick{memblob.New()})
	broken := errors.New("connection reset")
	for i := range 3000 {
		body := io.MultiReader(strings.NewReader("beginning"), iotest.ErrReader(broken))
		_, err := s.Put(t.Context(), workspace(t), storage.Upload{Filename: "a", Body: body})
		var file *storage.FileError
		if !errors.Is(err, broken) || !errors.As(err, &file) {
			t.Fatalf("try %d: %v, want the body's own error", i, err)
		}
	}
}
