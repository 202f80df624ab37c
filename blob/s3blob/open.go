package s3blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/molecule-ai/pendinguploads/blob"
)

// Open implements blob.Store. A transfer cut short ends in io.ErrUnexpectedEOF
// or the connection's error.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if offset < 0 || length < 0 {
		return nil, fmt.Errorf("open object %s: negative offset %d or length %d: %w", key, offset, length, blob.ErrRange)
	}
	in := &s3.GetObjectInput{Bucket: aws.String(s.bucket), Key: aws.String(key), Range: rangeHeader(offset, length)}
	out, err := s.api.GetObject(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("open object %s: %w", key, translate(err))
	}
	if in.Range != nil && out.ContentRange == nil {
		_ = out.Body.Close()
		return nil, fmt.Errorf("open object %s: the store ignored %s", key, *in.Range)
	}
	if out.ContentLength == nil {
		_ = out.Body.Close()
		return nil, fmt.Errorf("open object %s: answer without a length", key)
	}
	return &exactBody{ReadCloser: out.Body, left: *out.ContentLength}, nil
}

// rangeHeader is nil for the whole object.
func rangeHeader(offset, length int64) *string {
	if offset == 0 && length == 0 {
		return nil
	}
	h := "bytes=" + strconv.FormatInt(offset, 10) + "-"
	if length > 0 {
		h += strconv.FormatInt(offset+length-1, 10)
	}
	return &h
}

// exactBody ends in io.EOF only when the announced length has been read.
type exactBody struct {
	io.ReadCloser
	left int64 // bytes still to come
}

func (b *exactBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	if b.left > 0 && errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
