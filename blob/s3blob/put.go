package s3blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/internal/linger"
)

// Put implements blob.Store. It waits for one part buffer (blob.ErrBusy) and
// then never for another upload's.
func (s *Store) Put(ctx context.Context, key string, body io.Reader, opts blob.PutOptions) error {
	if err := s.put(ctx, key, body, opts); err != nil {
		return fmt.Errorf("put object %s: %w", key, err)
	}
	return nil
}

func (s *Store) put(ctx context.Context, key string, body io.Reader, opts blob.PutOptions) error {
	first, err := s.pool.Get(ctx)
	if err != nil {
		return err
	}
	reader := &bodyReader{r: body}
	n, more, err := reader.fill(ctx, first.Bytes())
	if err != nil {
		s.pool.Put(first)
		return err
	}
	if more {
		return s.putParts(ctx, key, reader, first, opts)
	}
	defer s.pool.Put(first)
	return s.putWhole(ctx, key, first.Bytes()[:n], opts)
}

// putWhole stores an object in one request.
func (s *Store) putWhole(ctx context.Context, key string, content []byte, opts blob.PutOptions) error {
	call, cancel := linger.Context(ctx, lingerTime)
	defer cancel()
	in := &s3.PutObjectInput{
		Bucket:        aws.String(s.bucket),
		Key:           aws.String(key),
		Body:          bytes.NewReader(content),
		ContentLength: aws.Int64(int64(len(content))),
		ContentType:   optional(opts.ContentType),
	}
	s.protection.onPut(in)
	var options []func(*s3.Options)
	if opts.SHA256 && s.partChecksum != "" {
		in.ChecksumSHA256 = aws.String(encodeSHA256(digestOf(content, opts.Digest)))
		options = append(options, withPayloadHash(unsignedPayload))
	} else if opts.Digest != nil {
		sum := opts.Digest()
		options = append(options, withPayloadHash(hex.EncodeToString(sum[:])))
	}
	_, err := s.api.PutObject(call, in, options...)
	if err == nil && ctx.Err() == nil {
		return nil
	}
	s.discard(ctx, key, opts)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return translate(err)
}

// digestOf is the SHA-256 of content, computed unless it is known.
func digestOf(content []byte, known func() [sha256.Size]byte) [sha256.Size]byte {
	if known != nil {
		return known()
	}
	return sha256.Sum256(content)
}

// discard removes what a failed or cancelled Put may have left under key. Its
// own failure is not the caller's: the object has no row and is swept later.
func (s *Store) discard(ctx context.Context, key string, opts blob.PutOptions) {
	if opts.Shared {
		return
	}
	clean, cancel := cleaning(ctx)
	defer cancel()
	if err := s.Delete(clean, key); err != nil {
		s.log.LogAttrs(clean, slog.LevelWarn, "object of a failed put may remain",
			slog.String("key", key), slog.Any("error", err))
	}
}

// optional leaves a header out instead of sending it empty.
func optional(v string) *string {
	if v == "" {
		return nil
	}
	return &v
}
