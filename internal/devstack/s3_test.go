package devstack_test

import (
	"io"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// putAndGet stores an object and leaves it, with an unfinished upload beside
// it, so that the removal of the bucket has something to do.
func putAndGet(t *testing.T, server devstack.S3) {
	t.Helper()
	client, bucket := server.Client(), aws.String(server.Bucket)
	const content = "some bytes"
	_, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: aws.String("a/b"), Body: strings.NewReader(content)})
	if err != nil {
		t.Fatal(err)
	}
	object, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: bucket, Key: aws.String("a/b")})
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(object.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := object.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if string(got) != content {
		t.Errorf("got %q back, want %q", got, content)
	}
	_, err = client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: bucket, Key: aws.String("a/c")})
	if err != nil {
		t.Fatal(err)
	}
}
