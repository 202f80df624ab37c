package s3blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/internal/linger"
)

// putParts stores an object as a multipart upload. first is full, and goes back
// to the pool whatever happens.
func (s *Store) putParts(ctx context.Context, key string, body *bodyReader, first *blob.Buffer, opts blob.PutOptions) error {
	sum := s.partChecksum
	if opts.SHA256 && sum != "" {
		sum = types.ChecksumAlgorithmSha256
	}
	id, err := s.createUpload(ctx, key, sum, opts)
	if err != nil {
		s.pool.Put(first)
		return err
	}
	parts, err := s.sendParts(ctx, key, id, sum, body, first)
	if err != nil {
		s.abandon(ctx, key, id)
		return err
	}
	if err := s.completeUpload(ctx, key, id, parts); err != nil {
		s.abandon(ctx, key, id)
		s.discard(ctx, key, opts)
		return err
	}
	return nil
}

func (s *Store) createUpload(ctx context.Context, key string, sum types.ChecksumAlgorithm, opts blob.PutOptions) (id string, err error) {
	call, cancel := linger.Context(ctx, lingerTime)
	defer cancel()
	in := &s3.CreateMultipartUploadInput{
		Bucket:            aws.String(s.bucket),
		Key:               aws.String(key),
		ContentType:       optional(opts.ContentType),
		ChecksumAlgorithm: sum,
	}
	s.protection.onCreate(in)
	out, err := s.api.CreateMultipartUpload(call, in)
	if err != nil {
		return "", fmt.Errorf("create multipart upload: %w", translate(err))
	}
	return aws.ToString(out.UploadId), nil
}

// sendParts sends the body behind first, part by part, and returns them in
// order once all have arrived. When it returns, no part is on its way any more
// and all buffers are back in the pool.
func (s *Store) sendParts(ctx context.Context, key, id string, sum types.ChecksumAlgorithm, body *bodyReader, first *blob.Buffer) ([]types.CompletedPart, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	buffers := &partBuffers{pool: s.pool, limit: s.concurrency, owned: 1, free: make(chan *blob.Buffer, s.concurrency)}

	var parts []*types.CompletedPart
	send := func(buf *blob.Buffer, n int) {
		part := &types.CompletedPart{PartNumber: aws.Int32(int32(len(parts) + 1))}
		parts = append(parts, part)
		group.Go(func() error {
			defer buffers.giveBack(buf)
			return s.uploadPart(ctx, key, id, sum, part, buf.Bytes()[:n])
		})
	}
	err := func() error {
		buf, n, more := first, len(first.Bytes()), true
		for send(buf, n); more; send(buf, n) {
			var err error
			if buf, err = buffers.next(ctx); err != nil {
				return err
			}
			if n, more, err = body.fill(ctx, buf.Bytes()); err != nil {
				buffers.giveBack(buf)
				return err
			}
		}
		return nil
	}()
	if err != nil {
		cancel()
	}
	buffers.drain()
	if sent := group.Wait(); err == nil {
		err = sent
	}
	if err != nil {
		return nil, err
	}
	completed := make([]types.CompletedPart, len(parts))
	for i, p := range parts {
		completed[i] = *p
	}
	return completed, nil
}

// uploadPart sends one part and fills in what CompleteMultipartUpload has to
// repeat of the answer.
func (s *Store) uploadPart(ctx context.Context, key, id string, sum types.ChecksumAlgorithm, part *types.CompletedPart, content []byte) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	call, cancel := linger.Context(ctx, lingerTime)
	defer cancel()
	in := &s3.UploadPartInput{
		Bucket:            aws.String(s.bucket),
		Key:               aws.String(key),
		UploadId:          aws.String(id),
		PartNumber:        part.PartNumber,
		Body:              bytes.NewReader(content),
		ContentLength:     aws.Int64(int64(len(content))),
		ChecksumAlgorithm: sum,
	}
	var options []func(*s3.Options)
	if sum == types.ChecksumAlgorithmSha256 {
		digest := sha256.Sum256(content)
		in.ChecksumSHA256 = aws.String(encodeSHA256(digest))
		options = append(options, withPayloadHash(unsignedPayload))
	}
	out, err := s.api.UploadPart(call, in, options...)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("upload part %d: %w", *part.PartNumber, translate(err))
	}
	part.ETag = out.ETag
	if sum != "" {
		// One of the two is set.
		part.ChecksumCRC32, part.ChecksumSHA256 = out.ChecksumCRC32, out.ChecksumSHA256
	}
	return nil
}

// completeUpload makes the object visible. An error leaves open whether it is.
func (s *Store) completeUpload(ctx context.Context, key, id string, parts []types.CompletedPart) error {
	call, cancel := linger.Context(ctx, lingerTime)
	defer cancel()
	out, err := s.api.CompleteMultipartUpload(call, &s3.CompleteMultipartUploadInput{
		Bucket:          aws.String(s.bucket),
		Key:             aws.String(key),
		UploadId:        aws.String(id),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		err = resultOf(out)
	}
	if err != nil {
		return fmt.Errorf("complete multipart upload: %w", translate(err))
	}
	return nil
}

// errNoResult is an answer that ends before it says what became of the upload.
var errNoResult = errors.New("answer without a result")

// resultOf tells a completion from the head of one. Stores send status 200 at once
// and spaces while they work, and a proxy may pass that on as the whole answer when
// the store goes away meanwhile.
func resultOf(out *s3.CompleteMultipartUploadOutput) error {
	if out.ETag == nil && out.Key == nil && out.Location == nil {
		return errNoResult
	}
	return nil
}

// abandon aborts an upload whose Put failed. Its own failure is not the
// caller's: ListUnfinished finds the upload later.
func (s *Store) abandon(ctx context.Context, key, id string) {
	clean, cancel := cleaning(ctx)
	defer cancel()
	if err := s.AbortUnfinished(clean, blob.Unfinished{Key: key, UploadID: id}); err != nil {
		s.log.LogAttrs(clean, slog.LevelWarn, "multipart upload of a failed put may remain",
			slog.String("key", key), slog.String("upload_id", id), slog.Any("error", err))
	}
}
