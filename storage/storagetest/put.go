package storagetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/storage"
)

var putTests = []subtest{
	{"a visible row's bytes are durable", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		for _, n := range []int{1, 4096, storage.MiB, 5*storage.MiB - 1, 5 * storage.MiB, 5*storage.MiB + 1, 11 * storage.MiB} {
			want := noise(n)
			r := put(t, h, ws, want)
			got, err := h.Storage.Get(t.Context(), ws, r.FileID)
			if err != nil {
				t.Fatalf("Get of %d bytes: %v", n, err)
			}
			wantContent(t, got, want)
			wantContent(t, r, want)
		}
	}},
	{"the object is complete before the row commits", func(t *testing.T, open Open) {
		ws := newWorkspace(t)
		var h Harness
		var atCommit []string
		calls := 0
		h = open(t, Options{BeforeCommit: func(context.Context) error {
			calls++
			if n := h.Rows(t, ws); n != 0 {
				t.Errorf("%d rows are visible before the commit", n)
			}
			if h.Objects != nil {
				atCommit = h.Objects(t)
			}
			return nil
		}})
		r, err := h.Storage.Put(t.Context(), ws, file("a.bin", noise(6*storage.MiB)))
		if err != nil || calls != 1 {
			t.Fatalf("Put: %v, %d commits", err, calls)
		}
		if r.Content.Placement == storage.PlacementObject && !slices.Contains(atCommit, r.Content.ObjectKey) {
			t.Errorf("object %s was not there when the row committed; there were %v", r.Content.ObjectKey, atCommit)
		}
	}},
	{"the record says what was put", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		before := time.Now().Add(-time.Minute)
		r, err := h.Storage.Put(t.Context(), ws, storage.Upload{Filename: "no safe name/ü\"", MIMEType: "Text/X-Odd", Body: strings.NewReader("x")})
		if err != nil {
			t.Fatal(err)
		}
		if r.WorkspaceID != ws || r.FileID.IsZero() || r.Filename != "no safe name/ü\"" || r.MIMEType != "Text/X-Odd" || r.Content.Size != 1 {
			t.Errorf("record differs from the upload: %+v", r)
		}
		if r.CreatedAt.Before(before) || r.FetchedAt != nil || r.AckedAt != nil || r.ExpiresAt.Sub(r.CreatedAt) != storage.DefaultTTL {
			t.Errorf("times: created %v, fetched %v, acked %v, expires %v", r.CreatedAt, r.FetchedAt, r.AckedAt, r.ExpiresAt)
		}
		if r.Content.Placement == storage.PlacementObject && r.Content.ObjectKey != h.Key(ws, r.FileID) {
			t.Errorf("object key %q, want %q", r.Content.ObjectKey, h.Key(ws, r.FileID))
		}
	}},
	{"a MIME type that no header may carry is kept as it is", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		for _, odd := range []string{"text/plain;\tcharset=utf-8", "a\r\nb: c", "\x01", "файл", "a/" + strings.Repeat("b", 10_000)} {
			// One that is written in one request, one in parts.
			for _, n := range []int{10, 6 * storage.MiB} {
				r, err := h.Storage.Put(t.Context(), ws, storage.Upload{Filename: "a", MIMEType: odd, Body: bytes.NewReader(noise(n))})
				if err != nil {
					t.Fatalf("%q: %v", odd, err)
				}
				if r, err = h.Storage.Get(t.Context(), ws, r.FileID); err != nil || r.MIMEType != odd {
					t.Errorf("%q became %q, %v", odd, r.MIMEType, err)
				}
			}
		}
	}},
	{"exactly the cap is accepted, one byte more is not", func(t *testing.T, open Open) {
		limits := storage.Limits{MaxFileBytes: 6 * storage.MiB, MaxRequestBytes: 20 * storage.MiB}
		h := open(t, Options{Limits: limits})
		ws := newWorkspace(t)
		put(t, h, ws, noise(6*storage.MiB))
		other := newWorkspace(t)
		_, err := h.Storage.Put(t.Context(), other, file("a.bin", noise(6*storage.MiB+1)))
		wantErr(t, "one byte above the cap", err, storage.ErrTooLarge)
		var size *storage.TooLargeError
		if !errors.As(err, &size) || size.Max != limits.MaxFileBytes || size.Size <= size.Max {
			t.Errorf("error does not say the numbers: %v", err)
		}
		if n := h.Rows(t, other); n != 0 {
			t.Errorf("%d rows of the refused file", n)
		}
		if h.Objects != nil && len(h.Objects(t)) > 1 {
			t.Errorf("objects of the refused file: %v", h.Objects(t))
		}
	}},
	{"exactly 25 MiB is accepted by default, one byte more is not", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		want := noise(storage.DefaultMaxFileBytes)
		wantContent(t, put(t, h, ws, want), want)
		_, err := h.Storage.Put(t.Context(), ws, file("a.bin", append(want, 0)))
		wantErr(t, "25 MiB + 1", err, storage.ErrTooLarge)
	}},
	{"exactly 100 bytes of name are accepted, none and 101 are not", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		for _, name := range []string{"", strings.Repeat("n", 101), strings.Repeat("é", 51)} {
			_, err := h.Storage.Put(t.Context(), ws, storage.Upload{Filename: name, Body: strings.NewReader("x")})
			wantErr(t, "name of "+name, err, storage.ErrInvalidFilename)
		}
		wantNothing(t, h, ws)
		if _, err := h.Storage.Put(t.Context(), ws, storage.Upload{Filename: strings.Repeat("é", 50), Body: strings.NewReader("x")}); err != nil {
			t.Errorf("100 bytes: %v", err)
		}
	}},
	{"an empty file is refused", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		_, err := h.Storage.Put(t.Context(), ws, storage.Upload{Filename: "a", Body: strings.NewReader("")})
		wantErr(t, "empty file", err, storage.ErrEmpty)
		wantNothing(t, h, ws)
	}},
	{"a body that fails leaves nothing", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		broken := errors.New("connection reset")
		for _, n := range []int{0, 1, 4096, 5 * storage.MiB, 12 * storage.MiB} {
			body := io.MultiReader(bytes.NewReader(noise(n)), errReader{broken})
			_, err := h.Storage.Put(t.Context(), ws, storage.Upload{Filename: "a", Body: body})
			wantErr(t, "body failure", err, broken)
			wantNothing(t, h, ws)
		}
	}},
	{"a cancelled put leaves nothing", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		for _, n := range []int{4096, 12 * storage.MiB} {
			ctx, cancel := context.WithCancel(t.Context())
			body := io.MultiReader(bytes.NewReader(noise(n)), readerFunc(func([]byte) (int, error) {
				cancel()
				return 0, io.EOF
			}))
			_, err := h.Storage.Put(ctx, ws, storage.Upload{Filename: "a", Body: body})
			wantErr(t, "cancelled put", err, context.Canceled)
			wantNothing(t, h, ws)
		}
	}},
	{"a commit that fails leaves nothing", func(t *testing.T, open Open) {
		refused := errors.New("commit refused")
		h := open(t, Options{BeforeCommit: func(context.Context) error { return refused }})
		ws := newWorkspace(t)
		_, err := h.Storage.PutBatch(t.Context(), ws, storage.Batch{Uploads: storage.Files(
			file("a", noise(10)), file("b", noise(6*storage.MiB)))})
		wantErr(t, "refused commit", err, refused)
		wantNothing(t, h, ws)
	}},
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }
