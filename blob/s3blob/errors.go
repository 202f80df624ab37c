package s3blob

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/molecule-ai/pendinguploads/blob"
)

// Error codes of the S3 protocol that the SDK has no type for, or that stores
// use where AWS uses a typed one.
const (
	codeNoSuchKey      = "NoSuchKey"
	codeNoSuchBucket   = "NoSuchBucket"
	codeNoSuchUpload   = "NoSuchUpload"
	codeNotFound       = "NotFound"
	codeInvalidRange   = "InvalidRange"
	codeNotImplemented = "NotImplemented"
	codeTimeSkewed     = "RequestTimeTooSkewed"
	codeMissingMD5     = "MissingContentMD5"
	codeInvalidRequest = "InvalidRequest"
	codeNoLifecycle    = "NoSuchLifecycleConfiguration"
	codeNoCORS         = "NoSuchCORSConfiguration"
	codeNoPolicy       = "NoSuchBucketPolicy"
	codePrecondition   = "PreconditionFailed"
	codeInvalidPart    = "InvalidPart"
	codeInvalid        = "InvalidArgument"
	codeMalformed      = "MalformedXML"
)

// translate puts the sentinel of package blob in front of an SDK error that
// means it.
func translate(err error) error {
	if err == nil {
		return nil
	}
	switch code := errorCode(err); {
	case code == codeNoSuchBucket:
		return fmt.Errorf("%w: %w", blob.ErrBucketNotFound, err)
	case isNoSuchKey(err) || code == codeNotFound:
		return fmt.Errorf("%w: %w", blob.ErrNotFound, err)
	case code == codeInvalidRange || statusCode(err) == http.StatusRequestedRangeNotSatisfiable:
		return fmt.Errorf("%w: %w", blob.ErrRange, err)
	case code == codeTimeSkewed || refusedForItsDate(err):
		return fmt.Errorf("%w: %w", blob.ErrClockSkew, err)
	case isNotImplemented(err):
		return fmt.Errorf("%w: %w", blob.ErrUnsupported, err)
	}
	return err
}

func isNoSuchKey(err error) bool {
	var typed *types.NoSuchKey
	return errors.As(err, &typed) || errorCode(err) == codeNoSuchKey
}

// forgivenSkew is how far S3 lets clocks differ.
const forgivenSkew = 15 * time.Minute

// refusedForItsDate recognizes the refusal that RequestTimeTooSkewed names, in
// answers that name nothing: those to HEAD have no body, and some stores have a
// code of their own.
func refusedForItsDate(err error) bool {
	var resp *awshttp.ResponseError
	if !errors.As(err, &resp) || resp.HTTPStatusCode() != http.StatusForbidden {
		return false
	}
	date, err := http.ParseTime(resp.HTTPResponse().Header.Get("Date"))
	return err == nil && time.Since(date).Abs() > forgivenSkew
}

func isNotImplemented(err error) bool {
	return errorCode(err) == codeNotImplemented || statusCode(err) == http.StatusNotImplemented
}

func isMalformed(err error) bool {
	code := errorCode(err)
	return code == codeInvalid || code == codeMalformed
}

func isNoSuchUpload(err error) bool {
	var typed *types.NoSuchUpload
	return errors.As(err, &typed) || errorCode(err) == codeNoSuchUpload
}

// isNoBucket recognizes HeadBucket's answer, which has no body to name a code.
func isNoBucket(err error) bool {
	var noBucket *types.NoSuchBucket
	var notFound *types.NotFound
	return errors.As(err, &noBucket) || errors.As(err, &notFound) ||
		errorCode(err) == codeNoSuchBucket || statusCode(err) == http.StatusNotFound
}

// Unreachable reports whether err is a request that got no answer at all: the
// endpoint is wrong, down, or does not speak as asked.
func Unreachable(err error) bool {
	var send *smithyhttp.RequestSendError
	return errors.As(err, &send)
}

// errorCode is the code of the store's answer, or "" if err is none.
func errorCode(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// statusCode is the HTTP status of the store's answer, or 0 if err is none.
func statusCode(err error) int {
	var resp *awshttp.ResponseError
	if errors.As(err, &resp) {
		return resp.HTTPStatusCode()
	}
	return 0
}
