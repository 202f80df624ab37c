package s3blob

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/molecule-ai/pendinguploads/blob"
)

// ListUnfinished implements blob.Store. It asks for the prefix first, and for
// the whole bucket when that yields nothing, because MinIO only lists that; both
// are cut down to the prefix here.
func (s *Store) ListUnfinished(ctx context.Context, prefix string) iter.Seq2[blob.Unfinished, error] {
	return func(yield func(blob.Unfinished, error) bool) {
		found := false
		seen := func(u blob.Unfinished, err error) bool {
			found = true
			return yield(u, err)
		}
		s.listUnfinished(ctx, prefix, prefix, seen)
		if !found && prefix != "" {
			s.listUnfinished(ctx, "", prefix, yield)
		}
	}
}

// listUnfinished asks the store for the uploads under ask, and yields those
// under prefix.
func (s *Store) listUnfinished(ctx context.Context, ask, prefix string, yield func(blob.Unfinished, error) bool) {
	in := &s3.ListMultipartUploadsInput{Bucket: aws.String(s.bucket), Prefix: optional(ask)}
	for {
		page, err := s.api.ListMultipartUploads(ctx, in)
		if in.UploadIdMarker != nil && errorCode(err) == codeInvalid {
			// VersityGW looks for the upload behind its own key. Of a key with several
			// uploads the rest is left out then; ours have one.
			in.UploadIdMarker = nil
			continue
		}
		if err != nil {
			yield(blob.Unfinished{}, fmt.Errorf("list unfinished uploads under %q: %w", prefix, translate(err)))
			return
		}
		for _, u := range page.Uploads {
			unfinished := blob.Unfinished{
				Key:       aws.ToString(u.Key),
				UploadID:  aws.ToString(u.UploadId),
				Initiated: aws.ToTime(u.Initiated),
			}
			if strings.HasPrefix(unfinished.Key, prefix) && !yield(unfinished, nil) {
				return
			}
		}
		if !aws.ToBool(page.IsTruncated) || aws.ToString(page.NextKeyMarker) == "" {
			return
		}
		in.KeyMarker, in.UploadIdMarker = page.NextKeyMarker, page.NextUploadIdMarker
	}
}

// AbortUnfinished implements blob.Store.
func (s *Store) AbortUnfinished(ctx context.Context, u blob.Unfinished) error {
	_, err := s.api.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
		Bucket:   aws.String(s.bucket),
		Key:      aws.String(u.Key),
		UploadId: aws.String(u.UploadID),
	})
	if err != nil && !isNoSuchUpload(err) && !isNoSuchKey(err) {
		return fmt.Errorf("abort upload %s of object %s: %w", u.UploadID, u.Key, translate(err))
	}
	return nil
}
