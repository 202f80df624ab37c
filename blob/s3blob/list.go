package s3blob

import (
	"context"
	"fmt"
	"iter"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/molecule-ai/pendinguploads/blob"
)

// List implements blob.Store. It asks for a page at a time; an object put or
// deleted meanwhile may or may not be among them.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[blob.Object, error] {
	return func(yield func(blob.Object, error) bool) {
		pages := s3.NewListObjectsV2Paginator(s.api, &s3.ListObjectsV2Input{
			Bucket: aws.String(s.bucket),
			Prefix: optional(prefix),
		})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(blob.Object{}, fmt.Errorf("list objects under %q: %w", prefix, translate(err)))
				return
			}
			for _, o := range page.Contents {
				object := blob.Object{
					Key:          aws.ToString(o.Key),
					Size:         aws.ToInt64(o.Size),
					LastModified: aws.ToTime(o.LastModified),
				}
				if !yield(object, nil) {
					return
				}
			}
		}
	}
}
