package s3blob

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/molecule-ai/pendinguploads/blob"
)

// Ready asks the store for the bucket, without changing anything: endpoint,
// credentials and bucket are right when it returns nil. blob.ErrBucketNotFound.
func (s *Store) Ready(ctx context.Context) error {
	_, err := s.api.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String(s.bucket)})
	switch {
	case err == nil:
		return nil
	case isNoBucket(err):
		return fmt.Errorf("bucket %q: %w", s.bucket, blob.ErrBucketNotFound)
	}
	return fmt.Errorf("bucket %q: %w", s.bucket, translate(err))
}

// EnsureBucket is Ready, except that an absent bucket is created if create says
// so. Several replicas may do it at once.
func (s *Store) EnsureBucket(ctx context.Context, create bool) error {
	err := s.Ready(ctx)
	if !create || !errors.Is(err, blob.ErrBucketNotFound) {
		return err
	}
	in := &s3.CreateBucketInput{Bucket: aws.String(s.bucket)}
	// S3 refuses its default region by name, and wants every other one.
	if s.region != "" && s.region != DefaultRegion {
		in.CreateBucketConfiguration = &types.CreateBucketConfiguration{
			LocationConstraint: types.BucketLocationConstraint(s.region),
		}
	}
	_, err = s.api.CreateBucket(ctx, in)
	var ours *types.BucketAlreadyOwnedByYou
	var taken *types.BucketAlreadyExists
	switch {
	case err == nil || errors.As(err, &ours):
		return nil
	case errors.As(err, &taken):
		// Stores without owners answer so too; whether it is usable, Ready knows.
		return s.Ready(ctx)
	}
	return fmt.Errorf("create bucket %q: %w", s.bucket, err)
}
