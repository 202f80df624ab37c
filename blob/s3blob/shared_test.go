package s3blob_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// Others have put the same bytes under the key, so a put that fails at whatever
// call leaves it alone.
func TestASharedPutThatFailsTakesNothingAway(t *testing.T) {
	t.Parallel()
	const small, large = 10, 12 * mib
	fails := func(func() error) error { return errFault }
	cases := []struct {
		name  string
		size  int
		want  error
		fault func(f *faulty, cancel func())
	}{
		{"PutObject fails", small, errFault, func(f *faulty, _ func()) { f.putObject = fails }},
		{"the answer to PutObject is lost", small, errFault, func(f *faulty, _ func()) { f.putObject = then }},
		{"the caller goes during PutObject", small, context.Canceled, func(f *faulty, cancel func()) {
			f.putObject = func(call func() error) error { cancel(); return call() }
		}},
		{"a part fails", large, errFault, func(f *faulty, _ func()) { f.part = failPart(2) }},
		{"CompleteMultipartUpload fails", large, errFault, func(f *faulty, _ func()) { f.complete = fails }},
		{"the answer to CompleteMultipartUpload is lost", large, errFault, func(f *faulty, _ func()) { f.complete = then }},
	}
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if err := open(t, config(t, server)).Put(ctx, "a", body(c.size), blob.PutOptions{}); err != nil {
					t.Fatal(err)
				}
				api := &faulty{API: client(server)}
				c.fault(api, cancel)
				store := newStore(t, server, api)
				if err := store.Put(ctx, "a", body(c.size), blob.PutOptions{Shared: true, SHA256: true}); !errors.Is(err, c.want) {
					t.Errorf("Put = %v, want %v", err, c.want)
				}
				rc, err := store.Open(t.Context(), "a", 0, 0)
				if err != nil {
					t.Fatal(err)
				}
				n, err := io.Copy(io.Discard, rc)
				if err = errors.Join(err, rc.Close(), store.Delete(t.Context(), "a")); err != nil || n != int64(c.size) {
					t.Errorf("%d bytes are left, %v", n, err)
				}
				empty(t, store)
			})
		}
	})
}
