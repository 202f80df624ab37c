package s3blob

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/molecule-ai/pendinguploads/blob"
)

var _ blob.Header = (*Store)(nil)

// Head implements blob.Header. Only an object written in one request with its
// SHA-256, as a presigned put writes it, has that checksum: Put sends CRC32, and
// a multipart upload's checksum is one of checksums.
func (s *Store) Head(ctx context.Context, key string) (blob.Info, error) {
	out, err := s.api.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket:       aws.String(s.bucket),
		Key:          aws.String(key),
		ChecksumMode: types.ChecksumModeEnabled,
	})
	if err != nil {
		return blob.Info{}, fmt.Errorf("head object %s: %w", key, translate(err))
	}
	if out.ContentLength == nil {
		return blob.Info{}, fmt.Errorf("head object %s: answer without a length", key)
	}
	info := blob.Info{
		Size:            *out.ContentLength,
		LastModified:    aws.ToTime(out.LastModified),
		ContentType:     aws.ToString(out.ContentType),
		ContentEncoding: aws.ToString(out.ContentEncoding),
		ETag:            strings.Trim(aws.ToString(out.ETag), `"`),
		Version:         aws.ToString(out.VersionId),
	}
	sum := aws.ToString(out.ChecksumSHA256)
	if out.ChecksumType != types.ChecksumTypeComposite {
		info.SHA256 = wholeSHA256(sum)
	}
	if info.SHA256 == nil && strings.Contains(sum, "-") {
		info.Composite = sum
	}
	return info, nil
}

// wholeSHA256 is nil for what is no SHA-256 of a whole object: none at all, or
// one of parts' checksums, which ends in a dash and their number.
func wholeSHA256(encoded string) *[sha256.Size]byte {
	b, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(b) != sha256.Size {
		return nil
	}
	return (*[sha256.Size]byte)(b)
}
