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

// testSharedFail: somebody else has put the same bytes already, so whatever makes
// a put fail, they stay.
func testSharedFail(t *testing.T, f fixture) {
	for _, size := range []int64{100, 5 * mib, 12*mib + 1} {
		key := f.key(fmt.Sprint(size))
		f.put(t, key, body(size))
		broken := &errBody{at: size}
		if err := f.Put(t.Context(), key, io.MultiReader(body(size), iotest.ErrReader(broken)), blob.PutOptions{Shared: true}); !errors.Is(err, broken) {
			t.Errorf("Put of a body that breaks after %d bytes = %v, want its error", size, err)
		}
		f.holds(t, key, size)
		// At its end the put is as good as done.
		ctx, cancel := cancellable(t)
		err := f.Put(ctx, key, then(body(size), func() io.Reader { cancel(); return body(0) }), blob.PutOptions{Shared: true})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Put cancelled after %d bytes: %v, want context.Canceled", size, err)
		}
		f.holds(t, key, size)
	}
}
