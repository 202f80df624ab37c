package s3blob_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
)

// held is a store whose parts do not end until they are let go, or their context
// ends.
type held struct {
	s3blob.API
	goOn    chan struct{}
	sending atomic.Int32
	aborted atomic.Int32
}

func (h *held) CreateMultipartUpload(context.Context, *s3.CreateMultipartUploadInput, ...func(*s3.Options)) (*s3.CreateMultipartUploadOutput, error) {
	return &s3.CreateMultipartUploadOutput{UploadId: aws.String("u")}, nil
}

func (h *held) UploadPart(ctx context.Context, _ *s3.UploadPartInput, _ ...func(*s3.Options)) (*s3.UploadPartOutput, error) {
	h.sending.Add(1)
	defer h.sending.Add(-1)
	select {
	case <-h.goOn:
		return &s3.UploadPartOutput{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (h *held) AbortMultipartUpload(context.Context, *s3.AbortMultipartUploadInput, ...func(*s3.Options)) (*s3.AbortMultipartUploadOutput, error) {
	h.aborted.Add(1)
	return &s3.AbortMultipartUploadOutput{}, nil
}

// startHeld begins a put that has two parts on their way, and returns when its
// body has failed.
func startHeld(t *testing.T) (*held, <-chan error) {
	t.Helper()
	api := &held{goOn: make(chan struct{})}
	store, err := s3blob.New(s3blob.Config{Bucket: "b", Pool: pool(t, blob.PoolConfig{})}, api)
	if err != nil {
		t.Fatal(err)
	}
	done, fail := make(chan error, 1), make(chan struct{})
	broken := readerFunc(func([]byte) (int, error) {
		<-fail
		return 0, errFault
	})
	go func() {
		done <- store.Put(t.Context(), "a", io.MultiReader(body(10*mib+1), broken), blob.PutOptions{})
	}()
	synctest.Wait()
	close(fail)
	synctest.Wait()
	if n := api.sending.Load(); n != 2 {
		t.Errorf("%d parts are on their way, want 2", n)
	}
	return api, done
}

func TestAbortWaitsForPartsOnTheirWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api, done := startHeld(t)
		for range 2 {
			if api.aborted.Load() != 0 {
				t.Error("aborted with parts on their way")
			}
			api.goOn <- struct{}{}
			synctest.Wait()
		}
		if err := <-done; !errors.Is(err, errFault) || api.aborted.Load() != 1 {
			t.Errorf("Put = %v after %d aborts, want the body's error after 1", err, api.aborted.Load())
		}
	})
}

func TestPartsOnTheirWayAreBrokenOffInTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api, done := startHeld(t)
		start := time.Now()
		if err := <-done; !errors.Is(err, errFault) || api.aborted.Load() != 1 {
			t.Errorf("Put = %v after %d aborts, want the body's error after 1", err, api.aborted.Load())
		}
		if waited := time.Since(start); waited == 0 || waited > 10*time.Second {
			t.Errorf("waited %v for parts that never arrive", waited)
		}
	})
}
