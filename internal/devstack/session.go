package devstack

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/cenkalti/backoff/v5"
)

// sessionTime is how long session credentials live: longer than any test, and
// within what every server gives.
const sessionTime = time.Hour

// sessionPatience bounds the wait for a server that has just started.
const sessionPatience = 30 * time.Second

// Session is the server, used by an identity that may do what the policy allows:
// no policy binds the root user of a server that was started here. VersityGW has
// no such identities.
func (s S3) Session(ctx context.Context, policy string) (S3, error) {
	client := sts.New(sts.Options{
		BaseEndpoint: aws.String(s.Endpoint),
		Region:       s.Region,
		Credentials:  credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, s.SessionToken),
	})
	// MinIO knows its identities only some time after it answers.
	out, err := backoff.Retry(ctx, func() (*sts.AssumeRoleOutput, error) {
		return client.AssumeRole(ctx, &sts.AssumeRoleInput{
			// MinIO reads neither, and the SDK wants both.
			RoleArn: aws.String("arn:aws:iam::000000000000:role/devstack"), RoleSessionName: aws.String("devstack"),
			Policy: aws.String(policy), DurationSeconds: aws.Int32(int32(sessionTime / time.Second)),
		})
	}, backoff.WithBackOff(backoff.NewConstantBackOff(100*time.Millisecond)), backoff.WithMaxElapsedTime(sessionPatience))
	if err != nil {
		return s, fmt.Errorf("session at %s: %w", s.Name, err)
	}
	if out.Credentials == nil {
		return s, fmt.Errorf("session at %s: %w", s.Name, errors.New("answer without credentials"))
	}
	s.AccessKey, s.SecretKey = aws.ToString(out.Credentials.AccessKeyId), aws.ToString(out.Credentials.SecretAccessKey)
	s.SessionToken = aws.ToString(out.Credentials.SessionToken)
	return s, nil
}

// DirectPolicy allows everything in a bucket but what the documentation of direct
// uploads wants denied to the service: to copy objects, to unpack archives, and
// to send content in a way for which MinIO looks at no signature of a URL.
func DirectPolicy(bucket string) string {
	return `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["s3:*"],"Resource":["arn:aws:s3:::` + bucket + `","arn:aws:s3:::` + bucket + `/*"]},
		{"Effect":"Deny","Action":["s3:PutObject"],"Resource":["arn:aws:s3:::` + bucket + `/*"],
		 "Condition":{"Null":{"s3:x-amz-copy-source":"false"}}},
		{"Effect":"Deny","Action":["s3:PutObject"],"Resource":["arn:aws:s3:::` + bucket + `/*"],
		 "Condition":{"StringEquals":{"s3:x-amz-content-sha256":"STREAMING-UNSIGNED-PAYLOAD-TRAILER"}}},
		{"Effect":"Deny","Action":["s3:PutObject"],"Resource":["arn:aws:s3:::` + bucket + `","arn:aws:s3:::` + bucket + `/*/"]}]}`
}

// MinIOUser returns what MinIO does, to be used by an identity that DirectPolicy
// binds: direct uploads need one.
func MinIOUser(tb testing.TB) S3 {
	tb.Helper()
	server := MinIO(tb)
	server, err := server.Session(tb.Context(), DirectPolicy(server.Bucket))
	if err != nil {
		tb.Fatal(err)
	}
	return server
}

// EachS3User is EachS3 for direct uploads: with MinIOUser in place of MinIO.
func EachS3User(t *testing.T, f func(t *testing.T, s3 S3)) {
	t.Helper()
	eachS3(t, map[string]func(testing.TB) S3{"minio": MinIOUser, "versitygw": VersityGW}, f)
}
