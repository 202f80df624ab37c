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

func putObject(t *testing.T, objects blob.Store, key string) {
	t.Helper()
	if err := objects.Put(t.Context(), key, strings.NewReader("x"), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

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

// faulty is an object store that breaks transfers and refuses opens.
type faulty struct {
	blob.Store
	refusals atomic.Int32 // opens still to refuse; negative: all
	breaks   atomic.Int32 // transfers still to break
	after    int64        // bytes before a transfer breaks
	opens    atomic.Int32
}

var errStore = errors.New("store is away")

func (f *faulty) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	f.opens.Add(1)
	if n := f.refusals.Load(); n < 0 || (n > 0 && f.refusals.Add(-1) >= 0) {
		return nil, errStore
	}
	rc, err := f.Store.Open(ctx, key, offset, length)
	if err != nil || f.breaks.Add(-1) < 0 {
		return rc, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(rc, f.after), brokenReader{}), rc}, nil
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errStore }

func TestReadingRetriesAndResumes(t *testing.T) {
	t.Parallel()
	content := bytes.Repeat([]byte("0123456789"), 1000)
	for name, c := range map[string]struct {
		refusals, breaks int32
		after            int64
		span             storage.Range
		want             error
	}{
		"open refused twice":                {refusals: 2},
		"broken three times":                {breaks: 3, after: 1234},
		"broken in a range":                 {breaks: 2, after: 100, span: storage.Range{Offset: 500, Length: 700}},
		"refused for longer than patience":  {refusals: -1, want: errStore},
		"broken again and again at a point": {breaks: 1000, after: 0, want: errStore},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects := &faulty{Store: memblob.New(), after: c.after}
			s := newStore(t, newRows(t), objects)
			r, err := s.Put(t.Context(), workspace(t), storage.Upload{Filename: "a", Body: bytes.NewReader(content)})
			if err != nil {
				t.Fatal(err)
			}
			objects.refusals.Store(c.refusals)
			objects.breaks.Store(c.breaks)
			var got []byte
			rc, err := r.Content.Open(t.Context(), c.span)
			if err == nil {
				got, err = io.ReadAll(rc)
				_ = rc.Close()
			}
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if c.want != nil {
				return
			}
			cut, _ := c.span.Resolve(int64(len(content)))
			if !bytes.Equal(got, content[cut.Offset:cut.Offset+cut.Length]) {
				t.Errorf("%d bytes that differ after %d opens", len(got), objects.opens.Load())
			}
		})
	}
}

// silent is an object store that does not answer when asked for an object.
type silent struct{ blob.Store }

func (silent) Open(ctx context.Context, _ string, _, _ int64) (io.ReadCloser, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestPatienceWithAStoreThatDoesNotAnswerEnds(t *testing.T) {
	t.Parallel()
	s := newStore(t, newRows(t), silent{memblob.New()})
	r, err := s.Put(t.Context(), workspace(t), storage.Upload{Filename: "a", Body: strings.NewReader("hello")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := r.Content.Open(ctx, storage.Range{}); err == nil || ctx.Err() != nil {
		t.Errorf("%v after %v of patience", err, 2*time.Second)
	}
}

func TestAnObjectThatEndsEarlyIsNotAWholeFile(t *testing.T) {
	t.Parallel()
	objects := memblob.New()
	s := newStore(t, newRows(t), objects)
	r, err := s.Put(t.Context(), workspace(t), storage.Upload{Filename: "a", Body: strings.NewReader("hello world")})
	if err != nil {
		t.Fatal(err)
	}
	if err := objects.Put(t.Context(), r.Content.ObjectKey, strings.NewReader("hello"), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, span := range []storage.Range{{}, {Offset: 3}, {Offset: 4, Length: 2}} {
		rc, err := r.Content.Open(t.Context(), span)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(rc); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%v: read %q, %v, want ErrCorrupt", span, b, err)
		}
	}
	if _, err := r.Content.Open(t.Context(), storage.Range{Offset: 5}); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("from its end on: %v, want ErrCorrupt", err)
	}
	rc, err := r.Content.Open(t.Context(), storage.Range{Length: 5})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(rc); err != nil || string(b) != "hello" {
		t.Errorf("what is there: %q, %v", b, err)
	}
}

// vanishing is an object store that loses an object with its first transfer.
type vanishing struct{ *faulty }

func (v vanishing) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	rc, err := v.faulty.Open(ctx, key, offset, length)
	if err == nil {
		err = v.Delete(ctx, key)
	}
	return rc, err
}

func TestAnObjectThatGoesInTheMiddleOfATransfer(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]error{"of a live row": storage.ErrCorrupt, "of an acked one": storage.ErrNotFound} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects := vanishing{&faulty{Store: memblob.New(), after: 3}}
			objects.breaks.Store(1)
			s := newStore(t, newRows(t), objects)
			ws := workspace(t)
			r, err := s.Put(t.Context(), ws, storage.Upload{Filename: "a", Body: strings.NewReader("hello world")})
			if err != nil {
				t.Fatal(err)
			}
			rc, err := r.Content.Open(t.Context(), storage.Range{})
			if err != nil {
				t.Fatal(err)
			}
			if errors.Is(want, storage.ErrNotFound) {
				if err := s.Ack(t.Context(), ws, r.FileID); err != nil {
					t.Fatal(err)
				}
			}
			if b, err := io.ReadAll(rc); !errors.Is(err, want) || string(b) != "hel" {
				t.Errorf("%q, %v, want %v", b, err, want)
			}
		})
	}
}

// slowSigner is an object store whose credentials take their time, by a clock of
// the test's own, the first few times.
type slowSigner struct {
	blob.Store
	clock *time.Time
	slow  int // times
	takes time.Duration
	asked []time.Duration // lives
}

func (p *slowSigner) PresignGet(_ context.Context, _ string, o blob.PresignGetOptions) (blob.SignedRequest, error) {
	if p.slow--; p.slow >= 0 {
		*p.clock = p.clock.Add(p.takes)
	}
	p.asked = append(p.asked, o.TTL)
	// The life counts from here on.
	return blob.SignedRequest{URL: "signed", Expires: p.clock.Truncate(time.Second).Add(o.TTL.Truncate(time.Second))}, nil
}

func (p *slowSigner) PresignPut(context.Context, string, blob.PresignPutOptions) (blob.SignedRequest, error) {
	return blob.SignedRequest{}, blob.ErrUnsupported
}

func TestAURLDoesNotOutliveItsRowWhileCredentialsAreFetched(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		slow  int
		takes time.Duration
		tries int
		want  error // nil: a URL
	}{
		"at once":             {0, 0, 1, nil},
		"slow once":           {1, 10 * time.Second, 2, nil},
		"slow beyond the row": {1, time.Hour, 1, storage.ErrNotFound},
		"always slow":         {100, 5 * time.Second, 3, errAny},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := time.Now()
			objects := &slowSigner{Store: memblob.New(), clock: &clock, slow: c.slow, takes: c.takes}
			s, err := staging.New(staging.Config{
				Rows:    metadata.NewUploads(metadata.UploadsConfig{DB: openDB(t), TTL: time.Minute}),
				Objects: objects, KeyPrefix: prefix, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return clock },
			})
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.Put(t.Context(), workspace(t), storage.Upload{Filename: "a", Body: strings.NewReader("hello")})
			if err != nil {
				t.Fatal(err)
			}
			u, err := r.Content.URL(t.Context(), storage.URLOptions{TTL: 5 * time.Minute})
			if len(objects.asked) != c.tries {
				t.Errorf("signed %d times, want %d", len(objects.asked), c.tries)
			}
			switch {
			case c.want == nil && (err != nil || u.ExpiresAt.After(r.ExpiresAt) || u.ExpiresAt.Before(r.ExpiresAt.Add(-3*time.Second))):
				t.Errorf("it ends at %v, the row at %v; %v", u.ExpiresAt, r.ExpiresAt, err)
			case errors.Is(c.want, errAny) && (err == nil || errors.Is(err, storage.ErrNotFound)),
				errors.Is(c.want, storage.ErrNotFound) && !errors.Is(err, storage.ErrNotFound):
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

var errAny = errors.New("an error that may pass")

func TestALostObjectIsTellApartFromASweptRow(t *testing.T) {
	t.Parallel()
	objects := memblob.New()
	rows := newRows(t)
	s := newStore(t, rows, objects)
	ws := workspace(t)
	r, err := s.Put(t.Context(), ws, storage.Upload{Filename: "a", Body: strings.NewReader("hello")})
	if err != nil {
		t.Fatal(err)
	}
	if err := objects.Delete(t.Context(), r.Content.ObjectKey); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Content.Open(t.Context(), storage.Range{}); !errors.Is(err, storage.ErrCorrupt) || errors.Is(err, storage.ErrNotFound) {
		t.Errorf("live row: %v, want ErrCorrupt", err)
	}
	if err := s.Ack(t.Context(), ws, r.FileID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sweep(t.Context(), 0, 10); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Content.Open(t.Context(), storage.Range{}); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("swept row: %v, want ErrNotFound", err)
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
