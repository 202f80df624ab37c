package s3blob

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/molecule-ai/pendinguploads/blob"
)

const (
	// dialTimeout and tlsTimeout bound the way to an answering server.
	dialTimeout = 5 * time.Second
	tlsTimeout  = 10 * time.Second

	// headerTimeout bounds the wait for an answer once the request is sent.
	headerTimeout = 30 * time.Second

	// idleConnTimeout closes connections nobody uses.
	idleConnTimeout = 30 * time.Second

	// silenceTimeout fails a connection on which nothing arrives. The clock of a
	// reused connection starts while it is idle and runs while a part is sent,
	// so what is left for sending one is silenceTimeout minus idleConnTimeout:
	// 8 MiB then need 70 KB a second.
	silenceTimeout = idleConnTimeout + 2*time.Minute

	// ioBufferBytes is the size of a connection's read and write buffers: fewer
	// system calls for bodies of several MiB than the 4 KiB of net/http.
	ioBufferBytes = 64 << 10

	// minIdleConns is the least number of connections kept for the next request.
	minIdleConns = 32
)

// API is the part of the S3 client that a Store calls.
type API interface {
	s3.ListObjectsV2APIClient
	s3.ListMultipartUploadsAPIClient

	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
	HeadObject(context.Context, *s3.HeadObjectInput, ...func(*s3.Options)) (*s3.HeadObjectOutput, error)
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
	DeleteObject(context.Context, *s3.DeleteObjectInput, ...func(*s3.Options)) (*s3.DeleteObjectOutput, error)
	DeleteObjects(context.Context, *s3.DeleteObjectsInput, ...func(*s3.Options)) (*s3.DeleteObjectsOutput, error)

	CreateMultipartUpload(context.Context, *s3.CreateMultipartUploadInput, ...func(*s3.Options)) (*s3.CreateMultipartUploadOutput, error)
	UploadPart(context.Context, *s3.UploadPartInput, ...func(*s3.Options)) (*s3.UploadPartOutput, error)
	CompleteMultipartUpload(context.Context, *s3.CompleteMultipartUploadInput, ...func(*s3.Options)) (*s3.CompleteMultipartUploadOutput, error)
	AbortMultipartUpload(context.Context, *s3.AbortMultipartUploadInput, ...func(*s3.Options)) (*s3.AbortMultipartUploadOutput, error)
	ListParts(context.Context, *s3.ListPartsInput, ...func(*s3.Options)) (*s3.ListPartsOutput, error)

	HeadBucket(context.Context, *s3.HeadBucketInput, ...func(*s3.Options)) (*s3.HeadBucketOutput, error)
	CreateBucket(context.Context, *s3.CreateBucketInput, ...func(*s3.Options)) (*s3.CreateBucketOutput, error)
}

var _ API = (*s3.Client)(nil)

// Store implements blob.Store in one bucket. It starts nothing that outlives a
// call.
type Store struct {
	api         API
	bucket      string
	region      string
	pool        *blob.Pool
	concurrency int
	protection  protection
	checksum    ChecksumMode
	signer      signer
	trial       trialWay
	log         *slog.Logger

	// partChecksum is named when an upload is created, with each part and at the
	// end, or nowhere: stores refuse to complete an upload where one of the three
	// differs.
	partChecksum types.ChecksumAlgorithm
}

var _ blob.Store = (*Store)(nil)

// New returns a Store over a client made by the caller. It uses all of cfg but
// Endpoint, PathStyle, Credentials and MaxRetries, which are the client's; the
// error names the field that cannot work.
func New(cfg Config, api API) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return newStore(cfg, api), nil
}

// Open returns a Store with a client of its own: configuration that cfg leaves
// open, credentials included, comes from the SDK's default chain, and so does
// AWS_CA_BUNDLE. It does not call the store; see Ready and EnsureBucket.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	client, err := newClient(ctx, cfg)
	if err != nil {
		return nil, err
	}
	cfg.Region = client.Options().Region
	return newStore(cfg, client), nil
}

func newClient(ctx context.Context, cfg Config) (*s3.Client, error) {
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(newHTTPClient(cfg)),
		config.WithRetryMaxAttempts(1 + max(cfg.MaxRetries, 0)),
	}
	if cfg.Region != "" {
		options = append(options, config.WithRegion(cfg.Region))
	}
	load := func(ctx context.Context) (aws.Config, error) {
		loaded, err := config.LoadDefaultConfig(ctx, options...)
		if err != nil {
			return aws.Config{}, fmt.Errorf("s3: load configuration: %w", err)
		}
		return loaded, nil
	}
	var awsCfg aws.Config
	var err error
	if cfg.Credentials != nil {
		options = append(options, config.WithCredentialsProvider(cfg.Credentials))
		awsCfg, err = load(ctx)
	} else {
		awsCfg, err = loadConfig(ctx, cfg.Logger, load)
	}
	if err != nil {
		return nil, err
	}
	if awsCfg.Region == "" {
		awsCfg.Region = DefaultRegion
	}
	return s3.NewFromConfig(awsCfg, func(o *s3.Options) {
		if cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(cfg.Endpoint)
		}
		o.UsePathStyle = cfg.PathStyle
		o.HTTPSignerV4 = &rotatingSigner{}
		if cfg.Checksum == ChecksumWhenRequired {
			o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
			o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		} else {
			o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenSupported
			o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenSupported
		}
		// A multipart object has a checksum of checksums that a download cannot be
		// held against; a warning for each would say nothing.
		o.DisableLogOutputChecksumValidationSkipped = true
	}), nil
}

func newStore(cfg Config, api API) *Store {
	s := &Store{
		api:         api,
		bucket:      cfg.Bucket,
		region:      cfg.Region,
		pool:        cfg.Pool,
		concurrency: cfg.PartConcurrency,
		protection:  cfg.protection(),
		checksum:    cfg.Checksum,
		log:         cfg.Logger,
	}
	if cfg.Checksum == ChecksumWhenSupported {
		s.partChecksum = types.ChecksumAlgorithmCrc32
	}
	if client, ok := api.(*s3.Client); ok {
		s.signer = newSigner(client, cfg.PublicEndpoint)
		s.trial = newTrialWay(client)
	}
	return s
}

// newHTTPClient returns a client that the SDK can still add a CA bundle to,
// which a plain *http.Client is not.
func newHTTPClient(cfg Config) *awshttp.BuildableClient {
	// One connection for every buffer that can be on its way, and as many again
	// for reads: fewer kept ones would be closed and dialled again all the time.
	conns := max(minIdleConns, 2*int(cfg.Pool.BudgetBytes()/int64(cfg.Pool.PartBytes())))
	return awshttp.NewBuildableClient().
		WithReadTimeout(silenceTimeout).
		WithDialerOptions(func(d *net.Dialer) {
			d.Timeout = dialTimeout
		}).
		WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConns = conns
			t.MaxIdleConnsPerHost = conns
			t.IdleConnTimeout = idleConnTimeout
			t.TLSHandshakeTimeout = tlsTimeout
			t.ResponseHeaderTimeout = headerTimeout
			t.ReadBufferSize = ioBufferBytes
			t.WriteBufferSize = ioBufferBytes
			// Objects are stored as they are; a decoded body would not fit ranges.
			t.DisableCompression = true
		})
}
