package s3blob

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// ConditionalWrites reports whether the store refuses to replace an object when a
// put says If-None-Match: *. It tries with an object made for that.
func (a *Admin) ConditionalWrites(ctx context.Context) (bool, error) {
	supported := false
	err := a.probe(ctx, func(key string) error {
		for _, again := range []bool{false, true} {
			err := a.putProbe(ctx, key, aws.String("*"))
			switch {
			case isNotImplemented(err):
				return nil
			case again && (errorCode(err) == codePrecondition || statusCode(err) == http.StatusPreconditionFailed):
				supported = true
			case err != nil:
				return a.errorf(err, "put on a condition to an object")
			}
		}
		return nil
	})
	return supported && err == nil, err
}

// DeleteSupport is how a store takes the deletion of many objects.
type DeleteSupport string

const (
	// DeleteManyCRC32 takes a flexible checksum.
	DeleteManyCRC32 DeleteSupport = "crc32"

	// DeleteManyMD5 needs Content-MD5; a Store sends it when asked to, or when
	// Config.Checksum is ChecksumWhenRequired.
	DeleteManyMD5 DeleteSupport = "md5"

	// DeleteOneByOne has no DeleteObjects; a Store then deletes one at a time.
	DeleteOneByOne DeleteSupport = "one by one"
)

// DeleteSupport tries to delete an object that does not exist, in the one way and
// then the other.
func (a *Admin) DeleteSupport(ctx context.Context) (DeleteSupport, error) {
	var found DeleteSupport
	err := a.probe(ctx, func(key string) error {
		in := &s3.DeleteObjectsInput{
			Bucket: aws.String(a.bucket),
			Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: aws.String(key)}}, Quiet: aws.Bool(true)},
		}
		_, err := a.api.DeleteObjects(ctx, in)
		found = DeleteManyCRC32
		if err != nil && !isNotImplemented(err) {
			var withMD5 error
			if _, withMD5 = a.api.DeleteObjects(ctx, in, s3.WithAPIOptions(md5Instead)); withMD5 == nil {
				found, err = DeleteManyMD5, nil
			}
		}
		if isNotImplemented(err) {
			found, err = DeleteOneByOne, nil
		}
		if err != nil {
			return a.errorf(err, "delete many objects")
		}
		return nil
	})
	return found, err
}

// errNoDate is an answer whose clock cannot be told.
var errNoDate = errors.New("the answer has no Date")

// ClockSkew is how far the store's clock is ahead of the one here, by the Date of
// an answer, whose resolution is a second. Up to 15 minutes are forgiven by S3,
// and the SDK corrects its own requests beyond that; presigned URLs are dated by
// the clock here, and live shorter or not at all. blob.ErrClockSkew when the
// store refuses the request for its date.
func (a *Admin) ClockSkew(ctx context.Context) (time.Duration, error) {
	// The answer to a HEAD would not say why it is a refusal.
	out, err := a.api.ListObjectsV2(ctx, &s3.ListObjectsV2Input{
		Bucket: aws.String(a.bucket), Prefix: optional(a.objectPrefix()), MaxKeys: aws.Int32(1),
	})
	if err != nil {
		return 0, a.errorf(err, "read the clock")
	}
	served, ok := awsmiddleware.GetServerTime(out.ResultMetadata)
	if !ok {
		return 0, a.errorf(errNoDate, "read the clock")
	}
	at, ok := awsmiddleware.GetResponseAt(out.ResultMetadata)
	if !ok {
		return 0, a.errorf(errNoDate, "read the clock")
	}
	return served.Sub(at), nil
}
