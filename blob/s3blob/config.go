package s3blob

import (
	"errors"
	"fmt"
	"log/slog"

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

	// Credentials are the SDK's default chain when nil.
	Credentials aws.CredentialsProvider

	// Pool gives the part buffers. Required; its buffers are MinPartBytes or more.
	Pool *blob.Pool

	// PartConcurrency is the most buffers that one Put uses at a time, 1 or more;
	// default DefaultPartConcurrency.
	PartConcurrency int

	Checksum ChecksumMode // default ChecksumWhenSupported

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
	}
	return c, nil
}
