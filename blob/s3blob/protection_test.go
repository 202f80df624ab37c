package s3blob_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// TestTagsAreOnEveryObject writes in all three ways that there are.
func TestTagsAreOnEveryObject(t *testing.T) {
	t.Parallel()
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		want := map[string]string{"team": "a b", "a/b@c": "x+y=z:1", "empty": ""}
		cfg := config(t, server)
		cfg.Tags = want
		store := open(t, cfg)
		put(t, store, "whole", 10)
		put(t, store, "parts", 6*mib)
		text := []byte("hello")
		r, err := store.PresignPut(t.Context(), "presigned", blob.PresignPutOptions{TTL: time.Minute, Size: int64(len(text)), SHA256: sha256.Sum256(text)})
		if err != nil {
			t.Fatal(err)
		}
		resp := cell{client: http.DefaultClient}.do(t, r, bytes.NewReader(text))
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status)
		}
		for _, key := range []string{"whole", "parts", "presigned"} {
			out, err := client(server).GetObjectTagging(t.Context(), &s3.GetObjectTaggingInput{Bucket: &server.Bucket, Key: &key})
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, tag := range out.TagSet {
				got[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("tags of %s (-want +got):\n%s", key, diff)
			}
		}
	})
}

// recorded keeps what a Put asks for before it is sent.
type recorded struct {
	s3blob.API
	put    *s3.PutObjectInput
	create *s3.CreateMultipartUploadInput
}

func (r *recorded) PutObject(_ context.Context, in *s3.PutObjectInput, _ ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	r.put = in
	return &s3.PutObjectOutput{}, nil
}

func (r *recorded) CreateMultipartUpload(_ context.Context, in *s3.CreateMultipartUploadInput, _ ...func(*s3.Options)) (*s3.CreateMultipartUploadOutput, error) {
	r.create = in
	return &s3.CreateMultipartUploadOutput{UploadId: aws.String("u")}, nil
}

func (r *recorded) UploadPart(context.Context, *s3.UploadPartInput, ...func(*s3.Options)) (*s3.UploadPartOutput, error) {
	return &s3.UploadPartOutput{}, nil
}

func (r *recorded) CompleteMultipartUpload(_ context.Context, in *s3.CompleteMultipartUploadInput, _ ...func(*s3.Options)) (*s3.CompleteMultipartUploadOutput, error) {
	return &s3.CompleteMultipartUploadOutput{Key: in.Key}, nil
}

func TestEncryptionIsAskedForWithEveryObject(t *testing.T) {
	t.Parallel()
	for _, cfg := range []s3blob.Config{
		{},
		{Encryption: s3blob.EncryptionAES256},
		{Encryption: s3blob.EncryptionKMS},
		{Encryption: s3blob.EncryptionKMS, KMSKeyID: "arn:aws:kms:eu-central-1:1:key/2"},
	} {
		cfg.Bucket, cfg.Pool = "b", pool(t, blob.PoolConfig{})
		api := &recorded{}
		store, err := s3blob.New(cfg, api)
		if err != nil {
			t.Fatal(err)
		}
		put(t, store, "whole", 10)
		put(t, store, "parts", 6*mib)
		want := string(cfg.Encryption) + cfg.KMSKeyID
		if got := string(api.put.ServerSideEncryption) + aws.ToString(api.put.SSEKMSKeyId); got != want {
			t.Errorf("PutObject asks for %q, want %q", got, want)
		}
		if got := string(api.create.ServerSideEncryption) + aws.ToString(api.create.SSEKMSKeyId); got != want {
			t.Errorf("CreateMultipartUpload asks for %q, want %q", got, want)
		}
	}
}

// TestEncryptionThatCannotBeHad: MinIO has no keys here and says so. VersityGW
// over a file system takes the request and encrypts nothing.
func TestEncryptionThatCannotBeHad(t *testing.T) {
	t.Parallel()
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		cfg := config(t, server)
		cfg.Encryption = s3blob.EncryptionAES256
		store := open(t, cfg)
		for _, size := range []int{10, 6 * mib} {
			err := store.Put(t.Context(), "a", body(size), blob.PutOptions{})
			switch {
			case server.Name == "minio" && (err == nil || !strings.Contains(err.Error(), "KMS")):
				t.Errorf("Put of %d bytes = %v, want the store's reason", size, err)
			case server.Name != "minio" && err != nil:
				t.Errorf("Put of %d bytes = %v", size, err)
			}
		}
		if err := store.Delete(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		empty(t, store)
	})
}
