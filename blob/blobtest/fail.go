package blobtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/molecule-ai/pendinguploads/blob"
)

// breaks are where a body goes wrong: at once, in the first part, where the
// first part is full, right behind it, and in later parts.
var breaks = []int64{0, 100, 5*mib - 1, 5 * mib, 5*mib + 1, 12 * mib, 20*mib + 1}

// errBody is an error that only a body can have.
type errBody struct{ at int64 }

func (e *errBody) Error() string { return fmt.Sprintf("body broke after %d bytes", e.at) }

func testBodyError(t *testing.T, f fixture) {
	for _, at := range breaks {
		key := f.key(fmt.Sprint(at))
		broken := &errBody{at: at}
		err := f.Put(t.Context(), key, io.MultiReader(body(at), iotest.ErrReader(broken)), blob.PutOptions{})
		var got *errBody
		if !errors.Is(err, broken) || !errors.As(err, &got) || got.at != at {
			t.Errorf("Put of a body that breaks after %d bytes = %v, want its error", at, err)
		}
		f.empty(t, key)
	}
}

// testBodyCutOff: a connection that breaks shows as io.ErrUnexpectedEOF, which
// must not be taken for the end.
func testBodyCutOff(t *testing.T, f fixture) {
	for _, at := range breaks {
		key := f.key(fmt.Sprint(at))
		err := f.Put(t.Context(), key, io.MultiReader(body(at), iotest.ErrReader(io.ErrUnexpectedEOF)), blob.PutOptions{})
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("Put of a body cut off after %d bytes = %v, want io.ErrUnexpectedEOF", at, err)
		}
		f.empty(t, key)
	}
}

func testCancelledPut(t *testing.T, f fixture) {
	for _, at := range []int64{100, 5 * mib, 12*mib + 1} {
		for _, c := range []struct {
			name string
			rest func(context.Context) io.Reader // what the body does once its context ended
		}{
			{"ends", func(context.Context) io.Reader { return body(0) }},
			{"fails", func(ctx context.Context) io.Reader { return iotest.ErrReader(ctx.Err()) }},
			{"goes on", func(context.Context) io.Reader { return body(20 * mib) }},
		} {
			key := f.key(fmt.Sprintf("%s-%d", c.name, at))
			ctx, cancel := cancellable(t)
			err := f.Put(ctx, key, then(body(at), func() io.Reader {
				cancel()
				return c.rest(ctx)
			}), blob.PutOptions{})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Put cancelled after %d bytes, body %s: %v, want context.Canceled", at, c.name, err)
			}
			f.empty(t, key)
		}
	}
}

func testPutAfterCancel(t *testing.T, f fixture) {
	ctx, cancel := cancellable(t)
	cancel()
	key := f.key("a")
	if err := f.Put(ctx, key, body(10), blob.PutOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Put = %v, want context.Canceled", err)
	}
	f.empty(t, key)
}

func testAbortGone(t *testing.T, f fixture) {
	u := blob.Unfinished{Key: f.key("a"), UploadID: "2b0a4d3c-6a3e-4d0e-9b8e-0d3f7f6f1c11"}
	if err := f.AbortUnfinished(t.Context(), u); err != nil {
		t.Errorf("AbortUnfinished: %v", err)
	}
}
