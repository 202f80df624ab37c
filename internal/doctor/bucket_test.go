package doctor_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/doctor"
)

// withoutBucket is what a bucket that cannot be used leaves.
func withoutBucket() others {
	return others{"bucket": doctor.Failure}.skipped("versioning", "put", "get", "head", "list", "list unfinished", "delete", "delete many",
		"multipart create", "multipart part", "multipart complete", "multipart abort", "checksum", "conditional writes", "presign",
		"public tls", "public presign", "direct uploads", "lifecycle unfinished", "lifecycle objects", "cors", "public access")
}

func TestBucketThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(t *testing.T, w *world)
		clock bool // there is no answer to read it from
		says  []string
	}{
		"absent": {spoil: func(_ *testing.T, w *world) {
			w.settings.S3Bucket += "-absent"
		}, says: []string{"there is no bucket", "S3_CREATE_BUCKET"}},
		"wrong secret": {spoil: func(_ *testing.T, w *world) {
			w.keys = credentials.NewStaticCredentialsProvider(w.s3.AccessKey, "wrong-word", "")
		}, says: []string{"SignatureDoesNotMatch", "credentials"}},
		"unknown key": {spoil: func(_ *testing.T, w *world) {
			w.keys = credentials.NewStaticCredentialsProvider("nobody", "wrong-word", "")
		}, says: []string{"InvalidAccessKeyId", "credentials"}},
		"no credentials": {spoil: func(_ *testing.T, w *world) {
			w.keys = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{}, errors.New("the chain is empty")
			})
		}, says: []string{"no credentials", "AWS_ACCESS_KEY_ID"}},
		"nobody there": {spoil: func(t *testing.T, w *world) {
			w.settings.S3Endpoint = "http://" + closed(t)
		}, clock: true, says: []string{"cannot be reached", "S3_ENDPOINT"}},
		"silence": {spoil: func(t *testing.T, w *world) {
			l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
			w.settings.S3Endpoint, w.timeout = "http://"+l.Addr().String(), time.Second
		}, clock: true, says: []string{"no answer in time (1s)"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.spoil(t, w)
			want := withoutBucket()
			if c.clock {
				want.skipped("s3 clock")
			}
			if name == "silence" {
				want["probes"] = doctor.OK
			}
			r := found(t, w.run(t), want)["bucket"]
			says(t, r, c.says...)
			if strings.Contains(r.String(), "wrong-word") {
				t.Errorf("the secret in %q", r)
			}
		})
	}
}

// A permission to list objects is one to look whether the bucket is there, unless
// it is bound to a prefix.
func TestBucketThatMayNotBeAskedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as(allowed(t, w.s3,
		statement{Effect: "Allow", Action: []string{"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"}, Resource: []string{arn(w.s3) + "/" + prefix + "/*"}},
		statement{Effect: "Allow", Action: []string{"s3:ListBucket"}, Resource: []string{arn(w.s3)}, Condition: map[string]map[string][]string{
			"StringLike": {"s3:prefix": {prefix + "/*"}},
		}},
		statement{Effect: "Allow", Action: []string{"s3:ListBucketMultipartUploads", "s3:GetBucketVersioning", "s3:GetLifecycleConfiguration"}, Resource: []string{arn(w.s3)}},
	))
	says(t, found(t, w.run(t), others{"bucket": doctor.Failure})["bucket"], "HeadBucket is refused: 403", "grant s3:ListBucket")
	w.empty(t)
}

func TestWithoutABucket(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.settings.S3Bucket = ""
	var got []string
	for _, r := range w.run(t) {
		got = append(got, string(r.Status)+" "+r.Name)
	}
	want := []string{
		"ok settings", "ok database", "ok database version", "ok database rights", "ok schema", "ok database clock",
		"ok database connections", "ok notifications", "ok corrupt files", "ok bucket",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestVersioning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.s3.Client().PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: &w.s3.Bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeVersions(t, w.s3) })
	says(t, found(t, w.run(t), others{"versioning": doctor.Warning})["versioning"], "hidden", "noncurrent")

	expire := func(id, below string, r types.LifecycleRule) types.LifecycleRule {
		r.ID, r.Status, r.Filter = &id, types.ExpirationStatusEnabled, &types.LifecycleRuleFilter{Prefix: &below}
		return r
	}
	if _, err := w.s3.Client().PutBucketLifecycleConfiguration(t.Context(), &s3.PutBucketLifecycleConfigurationInput{
		Bucket: &w.s3.Bucket, LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{
			expire("objects", "", types.LifecycleRule{Expiration: &types.LifecycleExpiration{Days: aws.Int32(3)}}),
			expire("versions", "", types.LifecycleRule{NoncurrentVersionExpiration: &types.NoncurrentVersionExpiration{NoncurrentDays: aws.Int32(1)}}),
		}},
	}); err != nil {
		t.Fatal(err)
	}
	found(t, w.run(t), nil)
}

func removeVersions(t *testing.T, store devstack.S3) {
	ctx := context.WithoutCancel(t.Context())
	out, err := store.Client().ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: &store.Bucket})
	if err != nil {
		t.Error(err)
		return
	}
	var ids []types.ObjectIdentifier
	for _, v := range out.Versions {
		ids = append(ids, types.ObjectIdentifier{Key: v.Key, VersionId: v.VersionId})
	}
	for _, m := range out.DeleteMarkers {
		ids = append(ids, types.ObjectIdentifier{Key: m.Key, VersionId: m.VersionId})
	}
	if _, err := store.Client().DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &store.Bucket, Delete: &types.Delete{Objects: ids}}); err != nil {
		t.Error(err)
	}
}

// TestAnInterruptLeavesNothing stops in the middle.
func TestAnInterruptLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	d := doctor.New(doctor.Config{Settings: w.settings, Credentials: w.keys})
	defer d.Close()
	var last doctor.Result
	results := d.Run(ctx, func(r doctor.Result) {
		if last = r; r.Name == "multipart create" {
			cancel()
		}
	})
	if last.Name != "probes" || last.Status != doctor.OK || results[len(results)-2].Name != "multipart create" {
		t.Errorf("after the interrupt: %v", results[len(results)-2:])
	}
	w.empty(t)
}
