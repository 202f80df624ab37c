package s3blob

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
)

// rotatingSigner signs with the SDK's signer, a new one for each secret. That
// keeps the day's signing key by the access key alone, and would go on with the
// secret of before where the same access key gets another, as users of MinIO do.
//
// It leaves Accept-Encoding out of the signature: proxies change it, Google's in
// front of its store always.
type rotatingSigner struct {
	mu     sync.Mutex
	secret string
	signer *v4.Signer
}

const acceptEncoding = "Accept-Encoding"

var (
	_ s3.HTTPSignerV4    = (*rotatingSigner)(nil)
	_ s3.HTTPPresignerV4 = (*rotatingSigner)(nil)
)

// SignHTTP implements s3.HTTPSignerV4.
func (r *rotatingSigner) SignHTTP(ctx context.Context, keys aws.Credentials, req *http.Request, payloadHash, service, region string, at time.Time, options ...func(*v4.SignerOptions)) error {
	if accepted, ok := req.Header[acceptEncoding]; ok {
		delete(req.Header, acceptEncoding)
		defer func() { req.Header[acceptEncoding] = accepted }()
	}
	return r.with(keys).SignHTTP(ctx, keys, req, payloadHash, service, region, at, options...)
}

// PresignHTTP implements s3.HTTPPresignerV4.
func (r *rotatingSigner) PresignHTTP(ctx context.Context, keys aws.Credentials, req *http.Request, payloadHash, service, region string, at time.Time, options ...func(*v4.SignerOptions)) (string, http.Header, error) {
	return r.with(keys).PresignHTTP(ctx, keys, req, payloadHash, service, region, at, options...)
}

func (r *rotatingSigner) with(keys aws.Credentials) *v4.Signer {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.signer == nil || r.secret != keys.SecretAccessKey {
		r.secret = keys.SecretAccessKey
		r.signer = v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }) // S3's rule
	}
	return r.signer
}

// unsignedPayload leaves the body to a checksum that is among the signed headers, so
// that neither side hashes it a second time.
const unsignedPayload = "UNSIGNED-PAYLOAD"

// withPayloadHash has a request's signature say that of its body, where the SDK
// would read the body for it: without TLS, and with a checksum in the header.
func withPayloadHash(hash string) func(*s3.Options) {
	return s3.WithAPIOptions(func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("PayloadHash",
			func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
				return next.HandleInitialize(v4.SetPayloadHash(ctx, hash), in)
			}), middleware.After)
	})
}
