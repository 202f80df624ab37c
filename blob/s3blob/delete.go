package s3blob

import (
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// deleteBatch is the most keys that one DeleteObjects takes.
const deleteBatch = 1000

// Delete implements blob.Store.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	if len(keys) == 1 {
		return s.deleteOne(ctx, keys[0])
	}
	var first error
	for batch := range slices.Chunk(keys, deleteBatch) {
		if err := s.deleteMany(ctx, batch); err != nil && first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return first
}

// deleteOne needs neither a checksum nor an XML body, so that it works where
// DeleteObjects does not.
func (s *Store) deleteOne(ctx context.Context, key string) error {
	_, err := s.api.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(s.bucket), Key: aws.String(key)})
	if err != nil && !isNoSuchKey(err) {
		return fmt.Errorf("delete object %s: %w", key, translate(err))
	}
	return nil
}

// deleteMany deletes one by one where the store has no DeleteObjects.
func (s *Store) deleteMany(ctx context.Context, keys []string) error {
	ids := make([]types.ObjectIdentifier, len(keys))
	for i := range keys {
		ids[i].Key = &keys[i]
	}
	var out *s3.DeleteObjectsOutput
	err := withBodyChecksum(s.checksum, func(options ...func(*s3.Options)) (err error) {
		out, err = s.api.DeleteObjects(ctx, &s3.DeleteObjectsInput{
			Bucket: aws.String(s.bucket),
			Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)},
		}, options...)
		return err
	})
	switch {
	case isNotImplemented(err):
		return s.deleteEach(ctx, keys)
	case err != nil:
		return fmt.Errorf("delete object %s and %d more: %w", keys[0], len(keys)-1, translate(err))
	}
	for _, e := range out.Errors {
		if err := keyError(e); !isNoSuchKey(err) {
			return fmt.Errorf("delete object %s: %w", aws.ToString(e.Key), err)
		}
	}
	return nil
}

// deleteEach goes on after a refusal and reports the first.
func (s *Store) deleteEach(ctx context.Context, keys []string) error {
	var first error
	for _, key := range keys {
		if err := s.deleteOne(ctx, key); err != nil && first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return first
}

// keyError is the store's refusal of one key among many.
func keyError(e types.Error) error {
	return &smithy.GenericAPIError{Code: aws.ToString(e.Code), Message: aws.ToString(e.Message)}
}
