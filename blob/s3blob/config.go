package s3blob

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/molecule-ai/pendinguploads/blob"
)

const (
	// MinPartBytes is the smallest part that S3 takes before the last one.
	MinPartBytes = 5 << 20

	// DefaultPartConcurrency is how many buffers one Put fills and sends at the
	// same time: one being read, two on their way.
	DefaultPartConcurrency = 3

	// DefaultMaxRetries makes three attempts, the SDK's standard.
	DefaultMaxRetries = 2

	// DefaultRegion is what S3-compatible stores expect when they have none.
	DefaultRegion = "us-east-1"
)

// ChecksumMode says when requests carry, and responses are held against, the
// flexible checksums of S3.
type ChecksumMode string

const (
	// ChecksumWhenSupported uses them on every operation that has them. The
	// default.
	ChecksumWhenSupported ChecksumMode = "when_supported"

	// ChecksumWhenRequired uses them only where S3 insists, for stores that do
	// not know them.
	ChecksumWhenRequired ChecksumMode = "when_required"
)

// Config says which bucket a Store keeps its objects in and how it talks to it.
type Config struct {
	Bucket    string // required
	Region    string // default: the SDK's own chain, then DefaultRegion
	Endpoint  string // http(s) URL of an S3-compatible store; empty for AWS
	PathStyle bool   // bucket in the path, not in the host name

	// PublicEndpoint is the http(s) URL under which those who get presigned
	// requests reach the store, where that is not Endpoint.
	PublicEndpoint string

	// Credentials are the SDK's default chain when nil, the shared files read
	// again when they change.
	Credentials aws.CredentialsProvider

	// Pool gives the part buffers. Required; its buffers are MinPartBytes or more.
	Pool *blob.Pool

	// PartConcurrency is the most buffers that one Put uses at a time, 1 or more;
	// default DefaultPartConcurrency.
	PartConcurrency int

	Checksum ChecksumMode // default ChecksumWhenSupported

	Encryption Encryption        // at rest; default EncryptionDefault
	KMSKeyID   string            // key of EncryptionKMS; default the store's own
	Tags       map[string]string // on every object, at most 10; default none

	// MaxRetries is the number of attempts after the first; default
	// DefaultMaxRetries, negative for none.
	MaxRetries int

	// Logger hears of clean-ups that failed; default none.
	Logger *slog.Logger
}

// withDefaults fills in what is missing and reports the first field that cannot
// work.
func (c Config) withDefaults() (Config, error) {
	if c.PartConcurrency == 0 {
		c.PartConcurrency = DefaultPartConcurrency
	}
	if c.Checksum == "" {
		c.Checksum = ChecksumWhenSupported
	}
	if c.MaxRetries == 0 {
		c.MaxRetries = DefaultMaxRetries
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.Bucket == "":
		return c, errors.New("s3: no bucket named")
	case c.Pool == nil:
		return c, errors.New("s3: no pool of part buffers")
	case c.Pool.PartBytes() < MinPartBytes:
		return c, fmt.Errorf("s3: part buffers of %d bytes, want at least %d", c.Pool.PartBytes(), MinPartBytes)
	case c.PartConcurrency < 1:
		return c, fmt.Errorf("s3: part concurrency is %d, want at least 1", c.PartConcurrency)
	case c.Checksum != ChecksumWhenSupported && c.Checksum != ChecksumWhenRequired:
		return c, fmt.Errorf("s3: checksum mode %q, want %q or %q", c.Checksum, ChecksumWhenSupported, ChecksumWhenRequired)
	case strings.ContainsFunc(c.Region, func(r rune) bool { return unprintable(r) || r == '/' }):
		return c, fmt.Errorf("s3: region %q has a blank or a slash", c.Region)
	}
	if err := checkEndpoint("endpoint", c.Endpoint); err != nil {
		return c, err
	}
	if err := checkEndpoint("public endpoint", c.PublicEndpoint); err != nil {
		return c, err
	}
	return c, c.checkProtection()
}

// checkEndpoint takes what a bucket and a key can be put behind, and nothing that
// would get lost on the way.
func checkEndpoint(name, endpoint string) error {
	if endpoint == "" {
		return nil
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil:
		return fmt.Errorf("s3: %s is no URL", name) // the error would show what may hold a password
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return fmt.Errorf("s3: %s %q, want http://HOST or https://HOST", name, u.Redacted())
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		return fmt.Errorf("s3: %s %q has more than scheme, host and path", name, u.Redacted())
	}
	return nil
}
