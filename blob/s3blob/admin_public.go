package s3blob

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// PublicAccess says what those without credentials can do.
type PublicAccess struct {
	Policy bool // the bucket's policy is public, as the store judges it
	List   bool // a listing below the prefix was answered
	Read   bool // an object below the prefix was answered
}

// Any reports whether anything is public.
func (p PublicAccess) Any() bool { return p.Policy || p.List || p.Read }

// PublicAccess asks for the policy's status, and then tries: it lists, and reads
// an object made for that, without credentials. A store without policy status
// is judged by the trial alone. s3:GetBucketPolicyStatus and what Put needs.
func (a *Admin) PublicAccess(ctx context.Context) (PublicAccess, error) {
	var found PublicAccess
	status, err := a.api.GetBucketPolicyStatus(ctx, &s3.GetBucketPolicyStatusInput{Bucket: aws.String(a.bucket)})
	switch {
	case err == nil:
		found.Policy = status.PolicyStatus != nil && aws.ToBool(status.PolicyStatus.IsPublic)
	case errorCode(err) != codeNoPolicy && !isNotImplemented(err):
		return found, a.errorf(err, "read policy status")
	}
	_, err = a.api.ListObjectsV2(ctx, &s3.ListObjectsV2Input{
		Bucket: aws.String(a.bucket), Prefix: optional(a.objectPrefix()), MaxKeys: aws.Int32(1),
	}, anonymously)
	if found.List, err = wasAnswered(err); err != nil {
		return found, a.errorf(err, "list without credentials")
	}
	return found, a.probe(ctx, func(key string) error {
		if err := a.putProbe(ctx, key, nil); err != nil {
			return a.errorf(err, "put a probe")
		}
		out, err := a.api.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(a.bucket), Key: aws.String(key)}, anonymously)
		if err == nil {
			_ = out.Body.Close()
		}
		if found.Read, err = wasAnswered(err); err != nil {
			return a.errorf(err, "read without credentials")
		}
		return nil
	})
}

// anonymously sends a request without a signature.
func anonymously(o *s3.Options) { o.Credentials = nil }

// wasAnswered tells a refusal from a failure.
func wasAnswered(err error) (bool, error) {
	switch statusCode(err) {
	case http.StatusUnauthorized, http.StatusForbidden:
		return false, nil
	}
	return err == nil, err
}

// withoutURL takes the URL out of net/http's error: a presigned one is a secret.
func withoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}
