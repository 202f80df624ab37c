package s3blob_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

var errFault = errors.New("fault on purpose")

// faulty is a real client with hooks around the calls of a Put. A nil hook
// leaves the call alone.
type faulty struct {
	s3blob.API
	putObject func(call func() error) error
	create    func(call func() error) error
	part      func(ctx context.Context, number int32, call func() error) error
	complete  func(call func() error) error
	abort     func(call func() error) error
}

func (f *faulty) PutObject(ctx context.Context, in *s3.PutObjectInput, o ...func(*s3.Options)) (out *s3.PutObjectOutput, err error) {
	call := func() error { out, err = f.API.PutObject(ctx, in, o...); return err }
	return out, around(f.putObject, call)
}

func (f *faulty) CreateMultipartUpload(ctx context.Context, in *s3.CreateMultipartUploadInput, o ...func(*s3.Options)) (*s3.CreateMultipartUploadOutput, error) {
	var out *s3.CreateMultipartUploadOutput
	err := around(f.create, func() (err error) { out, err = f.API.CreateMultipartUpload(ctx, in, o...); return err })
	return out, err
}

func (f *faulty) UploadPart(ctx context.Context, in *s3.UploadPartInput, o ...func(*s3.Options)) (*s3.UploadPartOutput, error) {
	var out *s3.UploadPartOutput
	call := func() (err error) { out, err = f.API.UploadPart(ctx, in, o...); return err }
	if f.part == nil {
		return out, call()
	}
	err := f.part(ctx, *in.PartNumber, call)
	return out, err
}

func (f *faulty) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput, o ...func(*s3.Options)) (*s3.CompleteMultipartUploadOutput, error) {
	var out *s3.CompleteMultipartUploadOutput
	err := around(f.complete, func() (err error) { out, err = f.API.CompleteMultipartUpload(ctx, in, o...); return err })
	return out, err
}

func (f *faulty) AbortMultipartUpload(ctx context.Context, in *s3.AbortMultipartUploadInput, o ...func(*s3.Options)) (*s3.AbortMultipartUploadOutput, error) {
	var out *s3.AbortMultipartUploadOutput
	err := around(f.abort, func() (err error) { out, err = f.API.AbortMultipartUpload(ctx, in, o...); return err })
	return out, err
}

func around(hook func(func() error) error, call func() error) error {
	if hook == nil {
		return call()
	}
	return hook(call)
}

// then fails after the call has had its effect.
func then(call func() error) error {
	if err := call(); err != nil {
		return err
	}
	return errFault
}

func TestFailedPutLeavesNothing(t *testing.T) {
	t.Parallel()
	const small, large = 10, 22 * mib
	cases := []struct {
		name  string
		size  int
		want  error
		fault func(f *faulty, cancel func())
	}{
		{"PutObject fails", small, errFault, func(f *faulty, _ func()) {
			f.putObject = func(func() error) error { return errFault }
		}},
		{"PutObject has its effect and the answer is lost", small, errFault, func(f *faulty, _ func()) {
			f.putObject = then
		}},
		{"the caller goes during PutObject", small, context.Canceled, func(f *faulty, cancel func()) {
			f.putObject = func(call func() error) error { cancel(); return call() }
		}},
		{"CreateMultipartUpload fails", large, errFault, func(f *faulty, _ func()) {
			f.create = func(func() error) error { return errFault }
		}},
		{"the caller goes during CreateMultipartUpload", large, context.Canceled, func(f *faulty, cancel func()) {
			f.create = func(call func() error) error { cancel(); return call() }
		}},
		{"the first part fails", large, errFault, func(f *faulty, _ func()) {
			f.part = failPart(1)
		}},
		{"a later part fails", large, errFault, func(f *faulty, _ func()) {
			f.part = failPart(3)
		}},
		{"the last part fails", large, errFault, func(f *faulty, _ func()) {
			f.part = failPart(5)
		}},
		{"the caller goes while a part is sent", large, context.Canceled, func(f *faulty, cancel func()) {
			f.part = func(_ context.Context, n int32, call func() error) error {
				if n == 2 {
					cancel()
				}
				return call()
			}
		}},
		{"CompleteMultipartUpload fails", large, errFault, func(f *faulty, _ func()) {
			f.complete = func(func() error) error { return errFault }
		}},
		{"CompleteMultipartUpload has its effect and the answer is lost", large, errFault, func(f *faulty, _ func()) {
			f.complete = then
		}},
		{"the caller goes during CompleteMultipartUpload", large, context.Canceled, func(f *faulty, cancel func()) {
			f.complete = func(call func() error) error { cancel(); return call() }
		}},
	}
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				api := &faulty{API: client(server)}
				c.fault(api, cancel)
				store := newStore(t, server, api)
				if err := store.Put(ctx, "a", body(c.size), blob.PutOptions{}); !errors.Is(err, c.want) {
					t.Errorf("Put = %v, want %v", err, c.want)
				}
				empty(t, store)
			})
		}
	})
}

func failPart(number int32) func(context.Context, int32, func() error) error {
	return func(_ context.Context, n int32, call func() error) error {
		if n == number {
			return errFault
		}
		return call()
	}
}

// newStore returns a store over api with a pool of its own, which must be whole
// again at the end.
func newStore(t *testing.T, server devstack.S3, api s3blob.API) *s3blob.Store {
	t.Helper()
	store, err := s3blob.New(config(t, server), api)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestUploadAbortedBySomebodyElseFails(t *testing.T) {
	t.Parallel()
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		store := open(t, config(t, server))
		aborted := 0
		abort := readerFunc(func([]byte) (int, error) {
			for u, err := range store.ListUnfinished(t.Context(), "a/") {
				if err != nil {
					return 0, err
				}
				aborted++
				if err := store.AbortUnfinished(t.Context(), u); err != nil {
					return 0, err
				}
			}
			return 0, io.EOF
		})
		err := store.Put(t.Context(), "a/b", io.MultiReader(body(12*mib), abort, body(20*mib)), blob.PutOptions{})
		if err == nil || aborted != 1 {
			t.Errorf("Put = %v after %d aborts, want an error after 1", err, aborted)
		}
		empty(t, store)
	})
}
