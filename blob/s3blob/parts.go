package s3blob

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/internal/linger"
)

var _ blob.PartPresigner = (*Store)(nil)

// CreateParts implements blob.PartPresigner. Encryption and tags are those of
// every object of the Store.
func (s *Store) CreateParts(ctx context.Context, key string, opts blob.PutOptions) (string, error) {
	id, err := s.createUpload(ctx, key, types.ChecksumAlgorithmSha256, opts)
	if err == nil && ctx.Err() != nil {
		s.abandon(ctx, key, id) // nobody is left who would send the parts
		err = context.Cause(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("begin object %s: %w", key, err)
	}
	return id, nil
}

// PresignPart implements blob.PartPresigner; see PresignGet for
// blob.ErrUnsupported. Upload id and number are signed in the address, size and
// checksum as headers.
func (s *Store) PresignPart(ctx context.Context, key, uploadID string, opts blob.PresignPartOptions) (blob.SignedRequest, error) {
	r, err := s.presignPart(ctx, s.signer, key, uploadID, opts)
	if err != nil {
		return blob.SignedRequest{}, fmt.Errorf("presign part %d of object %s: %w", opts.Number, key, err)
	}
	return r, nil
}

func (s *Store) presignPart(ctx context.Context, by signer, key, uploadID string, opts blob.PresignPartOptions) (blob.SignedRequest, error) {
	switch {
	case opts.Number < 1 || opts.Number > blob.MaxParts:
		return blob.SignedRequest{}, fmt.Errorf("number %d, want 1 to %d", opts.Number, blob.MaxParts)
	case uploadID == "":
		return blob.SignedRequest{}, errors.New("no upload id")
	case opts.Size < 1 || opts.Size > MaxPutBytes:
		return blob.SignedRequest{}, fmt.Errorf("size of %d bytes, want 1 to %d", opts.Size, int64(MaxPutBytes))
	case opts.SHA256 == [sha256.Size]byte{}:
		return blob.SignedRequest{}, errors.New("no SHA-256, so any content would do")
	}
	in := &s3.UploadPartInput{
		Bucket:         aws.String(s.bucket),
		Key:            aws.String(key),
		UploadId:       aws.String(uploadID),
		PartNumber:     aws.Int32(int32(opts.Number)),
		ContentLength:  aws.Int64(opts.Size),
		ChecksumSHA256: aws.String(encodeSHA256(opts.SHA256)),
	}
	return by.sign(ctx, opts.TTL, func(api presignAPI, expires func(*s3.PresignOptions)) (*v4.PresignedHTTPRequest, error) {
		return api.PresignUploadPart(ctx, in, expires)
	})
}

// CompleteParts implements blob.PartPresigner. The store is told the parts'
// checksums, so it makes the object of these parts or of none. It needs
// s3:ListMultipartUploadParts: only the store knows the parts' ETags.
func (s *Store) CompleteParts(ctx context.Context, key, uploadID string, parts []blob.Part, opts blob.CompleteOptions) error {
	if err := s.completeParts(ctx, key, uploadID, parts, opts); err != nil {
		return fmt.Errorf("complete object %s: %w", key, err)
	}
	return nil
}

func (s *Store) completeParts(ctx context.Context, key, uploadID string, parts []blob.Part, opts blob.CompleteOptions) error {
	sent, err := s.listParts(ctx, key, uploadID)
	if err != nil {
		return err
	}
	completed := make([]types.CompletedPart, len(parts))
	for i, p := range parts {
		number := int32(i + 1)
		found, ok := sent[number]
		switch {
		case !ok:
			return fmt.Errorf("part %d of %d: %w", number, len(parts), blob.ErrPartMissing)
		case aws.ToInt64(found.Size) != p.Size:
			return fmt.Errorf("part %d has %d bytes, want %d: %w", number, aws.ToInt64(found.Size), p.Size, blob.ErrPartMissing)
		}
		completed[i] = types.CompletedPart{PartNumber: aws.Int32(number), ETag: found.ETag, ChecksumSHA256: aws.String(encodeSHA256(p.SHA256))}
	}
	in := &s3.CompleteMultipartUploadInput{
		Bucket:          aws.String(s.bucket),
		Key:             aws.String(key),
		UploadId:        aws.String(uploadID),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: completed},
	}
	if opts.IfNoneMatch {
		in.IfNoneMatch = aws.String("*")
	}
	call, cancel := linger.Context(ctx, lingerTime)
	defer cancel()
	out, err := s.api.CompleteMultipartUpload(call, in)
	switch {
	case err == nil:
		return resultOf(out)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case isNoSuchUpload(err):
		return fmt.Errorf("%w: %w", blob.ErrNoUpload, err)
	case errorCode(err) == codeInvalidPart:
		return fmt.Errorf("%w: %w", blob.ErrPartMissing, err)
	}
	return translate(err)
}

// listParts are the parts that were sent, by number.
func (s *Store) listParts(ctx context.Context, key, uploadID string) (map[int32]types.Part, error) {
	sent := make(map[int32]types.Part)
	pages := s3.NewListPartsPaginator(s.api, &s3.ListPartsInput{Bucket: aws.String(s.bucket), Key: aws.String(key), UploadId: aws.String(uploadID)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		switch {
		case isNoSuchUpload(err), statusCode(err) == http.StatusNotFound && errorCode(err) != codeNoSuchBucket:
			return nil, fmt.Errorf("list parts: %w: %w", blob.ErrNoUpload, err)
		case err != nil:
			return nil, fmt.Errorf("list parts: %w", translate(err))
		}
		for _, p := range page.Parts {
			sent[aws.ToInt32(p.PartNumber)] = p
		}
	}
	return sent, nil
}

// encodeSHA256 is the form that the protocol has for a checksum.
func encodeSHA256(sum [sha256.Size]byte) string { return base64.StdEncoding.EncodeToString(sum[:]) }
