package staging_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/memblob"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

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
