package s3blob_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

func TestAbsentBucketIsCreatedOnlyWhenAllowed(t *testing.T) {
	t.Parallel()
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		cfg := config(t, server)
		cfg.Bucket += "-new"
		store := open(t, cfg)

		for name, err := range map[string]error{
			"Ready":        store.Ready(t.Context()),
			"EnsureBucket": store.EnsureBucket(t.Context(), false),
		} {
			if !errors.Is(err, blob.ErrBucketNotFound) || !strings.Contains(err.Error(), cfg.Bucket) {
				t.Errorf("%s = %v, want ErrBucketNotFound with the bucket's name", name, err)
			}
		}
		if err := store.Put(t.Context(), "a", body(1), blob.PutOptions{}); !errors.Is(err, blob.ErrBucketNotFound) {
			t.Errorf("Put = %v, want ErrBucketNotFound", err)
		}
		if _, err := store.Open(t.Context(), "a", 0, 0); !errors.Is(err, blob.ErrBucketNotFound) {
			t.Errorf("Open = %v, want ErrBucketNotFound", err)
		}

		var group errgroup.Group
		for range 5 { // replicas that start together
			group.Go(func() error { return store.EnsureBucket(t.Context(), true) })
		}
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
		t.Cleanup(func() {
			_, err := client(server).DeleteBucket(context.WithoutCancel(t.Context()), &s3.DeleteBucketInput{Bucket: &cfg.Bucket})
			if err != nil {
				t.Error(err)
			}
		})
		if err := store.Ready(t.Context()); err != nil {
			t.Errorf("Ready after it was created: %v", err)
		}
	})
}

func TestWrongCredentialsAreNoAbsentBucket(t *testing.T) {
	t.Parallel()
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		cfg := config(t, server)
		cfg.Credentials = credentials.NewStaticCredentialsProvider(server.AccessKey, "wrong-secret-key", "")
		err := open(t, cfg).EnsureBucket(t.Context(), true)
		if err == nil || errors.Is(err, blob.ErrBucketNotFound) {
			t.Errorf("EnsureBucket = %v, want an error that is not ErrBucketNotFound", err)
		}
	})
}
