package s3blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/molecule-ai/pendinguploads/blob"
)

// MaxPutBytes is the most that S3 takes in one request, 5 GiB.
const MaxPutBytes = 5 << 30

// presignAPI is the part of the SDK's presign client that a Store calls.
type presignAPI interface {
	PresignGetObject(context.Context, *s3.GetObjectInput, ...func(*s3.PresignOptions)) (*v4.PresignedHTTPRequest, error)
	PresignPutObject(context.Context, *s3.PutObjectInput, ...func(*s3.PresignOptions)) (*v4.PresignedHTTPRequest, error)
	PresignUploadPart(context.Context, *s3.UploadPartInput, ...func(*s3.PresignOptions)) (*v4.PresignedHTTPRequest, error)
}

var _ presignAPI = (*s3.PresignClient)(nil)

// signer makes presigned requests. The zero value answers blob.ErrUnsupported.
type signer struct {
	api         presignAPI
	credentials aws.CredentialsProvider
}

// newSigner returns a signer for the endpoint that those outside reach: a host is
// part of the signature, so a signed URL cannot be moved to another one.
func newSigner(client *s3.Client, publicEndpoint string) signer {
	options := client.Options()
	client = s3.New(options, func(o *s3.Options) {
		if publicEndpoint != "" {
			o.BaseEndpoint = aws.String(publicEndpoint)
		}
		// Who gets the URL does not look at checksums in the answer.
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})
	presign := s3.NewPresignClient(client, func(o *s3.PresignOptions) { o.Presigner = &rotatingSigner{} })
	return signer{api: presign, credentials: options.Credentials}
}

// sign runs presign and puts its answer into the house's form.
func (p signer) sign(ctx context.Context, ttl time.Duration, presign func(presignAPI, func(*s3.PresignOptions)) (*v4.PresignedHTTPRequest, error)) (blob.SignedRequest, error) {
	switch {
	case p.api == nil:
		return blob.SignedRequest{}, blob.ErrUnsupported
	case ttl < time.Second || ttl > blob.MaxPresignTTL:
		return blob.SignedRequest{}, fmt.Errorf("life of %v, want 1s to %v", ttl, blob.MaxPresignTTL)
	}
	// S3 counts whole seconds, from a date that has no fraction either.
	ttl = ttl.Truncate(time.Second)
	begun := time.Now()
	expires := begun.Truncate(time.Second).Add(ttl)
	if p.credentials != nil {
		keys, err := p.credentials.Retrieve(ctx)
		if err != nil {
			return blob.SignedRequest{}, fmt.Errorf("retrieve credentials: %w", err)
		}
		if keys.CanExpire && keys.Expires.Before(expires) {
			expires = keys.Expires
		}
		// The date is that of the signing, and credentials may be slow to come.
		if late := time.Since(begun).Truncate(time.Second); late > 0 {
			if ttl -= late; ttl < time.Second {
				return blob.SignedRequest{}, fmt.Errorf("credentials came after %v", late)
			}
		}
	}
	signed, err := presign(p.api, s3.WithPresignExpires(ttl))
	if err != nil {
		return blob.SignedRequest{}, err
	}
	header := make(http.Header, len(signed.SignedHeader))
	for name, values := range signed.SignedHeader {
		if name = http.CanonicalHeaderKey(name); name != "Host" {
			header[name] = values
		}
	}
	return blob.SignedRequest{Method: signed.Method, URL: signed.URL, Header: header, Expires: expires}, nil
}

var _ blob.Presigner = (*Store)(nil)

// PresignGet implements blob.Presigner. It is blob.ErrUnsupported for a Store
// that New made over something else than the SDK's client.
func (s *Store) PresignGet(ctx context.Context, key string, opts blob.PresignGetOptions) (blob.SignedRequest, error) {
	r, err := s.signer.sign(ctx, opts.TTL, func(api presignAPI, expires func(*s3.PresignOptions)) (*v4.PresignedHTTPRequest, error) {
		return api.PresignGetObject(ctx, &s3.GetObjectInput{
			Bucket:                     aws.String(s.bucket),
			Key:                        aws.String(key),
			ResponseContentType:        optional(opts.ContentType),
			ResponseContentDisposition: optional(opts.ContentDisposition),
			ResponseCacheControl:       optional(opts.CacheControl),
		}, expires)
	})
	if err != nil {
		return blob.SignedRequest{}, fmt.Errorf("presign get of object %s: %w", key, err)
	}
	return r, nil
}

// PresignPut implements blob.Presigner; see PresignGet for blob.ErrUnsupported.
// Size, checksum, type, encoding, condition, encryption and tags are signed as
// headers. For an object of no bytes the SDK signs neither length nor type: there
// the checksum alone binds the content.
//
// What other headers the holder may add is the store's affair. AWS refuses those
// that begin with x-amz- and are not signed; MinIO takes them, and DirectSupport
// tells what comes of it.
func (s *Store) PresignPut(ctx context.Context, key string, opts blob.PresignPutOptions) (blob.SignedRequest, error) {
	r, err := s.presignPut(ctx, s.signer, key, opts)
	if err != nil {
		return blob.SignedRequest{}, fmt.Errorf("presign put of object %s: %w", key, err)
	}
	return r, nil
}

func (s *Store) presignPut(ctx context.Context, by signer, key string, opts blob.PresignPutOptions) (blob.SignedRequest, error) {
	switch {
	case opts.Size < 0:
		return blob.SignedRequest{}, fmt.Errorf("size of %d bytes", opts.Size)
	case opts.Size > MaxPutBytes:
		return blob.SignedRequest{}, fmt.Errorf("size of %d bytes, one request takes at most %d", opts.Size, int64(MaxPutBytes))
	case opts.SHA256 == [sha256.Size]byte{}:
		return blob.SignedRequest{}, errors.New("no SHA-256, so any content would do")
	}
	in := &s3.PutObjectInput{
		Bucket:          aws.String(s.bucket),
		Key:             aws.String(key),
		ContentLength:   aws.Int64(opts.Size),
		ContentType:     optional(opts.ContentType),
		ContentEncoding: optional(opts.ContentEncoding),
		ChecksumSHA256:  aws.String(encodeSHA256(opts.SHA256)),
	}
	if opts.IfNoneMatch {
		in.IfNoneMatch = aws.String("*")
	}
	s.protection.onPut(in)
	return by.sign(ctx, opts.TTL, func(api presignAPI, expires func(*s3.PresignOptions)) (*v4.PresignedHTTPRequest, error) {
		return api.PresignPutObject(ctx, in, expires)
	})
}
