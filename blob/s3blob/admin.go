package s3blob

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/molecule-ai/pendinguploads/blob"
)

// AdminAPI is the part of the S3 client that an Admin calls.
type AdminAPI interface {
	GetBucketLifecycleConfiguration(context.Context, *s3.GetBucketLifecycleConfigurationInput, ...func(*s3.Options)) (*s3.GetBucketLifecycleConfigurationOutput, error)
	PutBucketLifecycleConfiguration(context.Context, *s3.PutBucketLifecycleConfigurationInput, ...func(*s3.Options)) (*s3.PutBucketLifecycleConfigurationOutput, error)
	GetBucketCors(context.Context, *s3.GetBucketCorsInput, ...func(*s3.Options)) (*s3.GetBucketCorsOutput, error)
	PutBucketCors(context.Context, *s3.PutBucketCorsInput, ...func(*s3.Options)) (*s3.PutBucketCorsOutput, error)
	GetBucketPolicyStatus(context.Context, *s3.GetBucketPolicyStatusInput, ...func(*s3.Options)) (*s3.GetBucketPolicyStatusOutput, error)
	GetBucketVersioning(context.Context, *s3.GetBucketVersioningInput, ...func(*s3.Options)) (*s3.GetBucketVersioningOutput, error)
	ListObjectsV2(context.Context, *s3.ListObjectsV2Input, ...func(*s3.Options)) (*s3.ListObjectsV2Output, error)
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
	DeleteObject(context.Context, *s3.DeleteObjectInput, ...func(*s3.Options)) (*s3.DeleteObjectOutput, error)
	DeleteObjects(context.Context, *s3.DeleteObjectsInput, ...func(*s3.Options)) (*s3.DeleteObjectsOutput, error)
}

var _ AdminAPI = (*s3.Client)(nil)

// Admin examines and sets up the bucket as a whole. Its calls need permissions
// that a Store does not; a method names its own. What the store cannot do at all
// is blob.ErrUnsupported.
type Admin struct {
	api        AdminAPI
	bucket     string
	prefix     string // of the objects, without a slash at its end
	mode       ChecksumMode
	protection protection
	log        *slog.Logger
}

// Admin returns the Admin of the store's bucket, for objects below prefix. It is
// blob.ErrUnsupported for a Store that New made over less than an AdminAPI.
func (s *Store) Admin(prefix string) (*Admin, error) {
	api, ok := s.api.(AdminAPI)
	if !ok {
		return nil, fmt.Errorf("administer bucket %q: %w", s.bucket, blob.ErrUnsupported)
	}
	return &Admin{
		api: api, bucket: s.bucket, prefix: strings.TrimSuffix(prefix, "/"),
		mode: s.checksum, protection: s.protection, log: s.log,
	}, nil
}

// errorf wraps err with what was tried.
func (a *Admin) errorf(err error, what string) error {
	return fmt.Errorf("%s of bucket %q: %w", what, a.bucket, translate(err))
}

// objectPrefix is what the keys of all objects begin with.
func (a *Admin) objectPrefix() string {
	if a.prefix == "" {
		return ""
	}
	return a.prefix + "/"
}

// ruleID names the service's own rules among those that others set.
func (a *Admin) ruleID() string { return "pendinguploads-" + a.prefix }

// probe calls f with the key of an object of a few bytes that is absent before
// and removed after it.
func (a *Admin) probe(ctx context.Context, f func(key string) error) error {
	key := a.objectPrefix() + "probe-" + strings.ToLower(rand.Text())
	err := f(key)
	clean, cancel := cleaning(ctx)
	defer cancel()
	_, deleted := a.api.DeleteObject(clean, &s3.DeleteObjectInput{Bucket: aws.String(a.bucket), Key: aws.String(key)})
	if deleted != nil && !isNoSuchKey(deleted) {
		err = errors.Join(err, fmt.Errorf("remove object %s: %w", key, translate(deleted)))
	}
	return err
}

// probeText is the content of a probe.
const probeText = "probe"

// putProbe puts one as a Store puts objects: a policy may demand encryption or
// tags.
func (a *Admin) putProbe(ctx context.Context, key string, ifNoneMatch *string) error {
	in := &s3.PutObjectInput{
		Bucket:      aws.String(a.bucket),
		Key:         aws.String(key),
		Body:        strings.NewReader(probeText),
		IfNoneMatch: ifNoneMatch,
	}
	a.protection.onPut(in)
	_, err := a.api.PutObject(ctx, in)
	return err
}

// Versioned reports whether deletes only hide objects, because the bucket keeps
// versions. s3:GetBucketVersioning.
func (a *Admin) Versioned(ctx context.Context) (bool, error) {
	out, err := a.api.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: aws.String(a.bucket)})
	if err != nil {
		return false, a.errorf(err, "read versioning")
	}
	return out.Status != "", nil
}
