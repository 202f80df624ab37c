package s3blob_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

func admin(t *testing.T, store *s3blob.Store) *s3blob.Admin {
	t.Helper()
	a, err := store.Admin("some/prefix")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestLifecycleIsSetBesideTheRulesOfOthers(t *testing.T) {
	t.Parallel()
	server := devstack.MinIO(t)
	a := admin(t, open(t, config(t, server)))
	lifecycle := func(want s3blob.Lifecycle) {
		t.Helper()
		if got, err := a.Lifecycle(t.Context()); err != nil || got != want {
			t.Errorf("Lifecycle = %+v, %v, want %+v", got, err, want)
		}
	}
	lifecycle(s3blob.Lifecycle{})

	rules := []types.LifecycleRule{
		expiry("elsewhere", "elsewhere/", 1, types.ExpirationStatusEnabled),
		expiry("part", "some/prefix/part/", 1, types.ExpirationStatusEnabled),
		expiry("off", "some/", 1, types.ExpirationStatusDisabled),
		expiry("above", "some/", 90, types.ExpirationStatusEnabled),
	}
	if _, err := client(server).PutBucketLifecycleConfiguration(t.Context(), &s3.PutBucketLifecycleConfigurationInput{
		Bucket: &server.Bucket, LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: rules},
	}); err != nil {
		t.Fatal(err)
	}
	lifecycle(s3blob.Lifecycle{ExpireDays: 90})
	for _, days := range []int{5, 2} { // the second replaces the first
		if err := a.SetLifecycle(t.Context(), s3blob.Lifecycle{ExpireDays: days}); err != nil {
			t.Fatal(err)
		}
		lifecycle(s3blob.Lifecycle{ExpireDays: days})
	}
	out, err := client(server).GetBucketLifecycleConfiguration(t.Context(), &s3.GetBucketLifecycleConfigurationInput{Bucket: &server.Bucket})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range out.Rules {
		ids = append(ids, aws.ToString(r.ID))
	}
	if diff := cmp.Diff([]string{"elsewhere", "part", "off", "above", "pendinguploads-some/prefix"}, ids); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	for _, wrong := range []s3blob.Lifecycle{{}, {ExpireDays: -1}, {AbortDays: -1, ExpireDays: 1}} {
		if err := a.SetLifecycle(t.Context(), wrong); err == nil {
			t.Errorf("SetLifecycle(%+v) succeeded", wrong)
		}
	}
}

func expiry(id, prefix string, days int32, status types.ExpirationStatus) types.LifecycleRule {
	return types.LifecycleRule{
		ID: &id, Status: status, Expiration: &types.LifecycleExpiration{Days: &days},
		Filter: &types.LifecycleRuleFilter{Prefix: &prefix},
	}
}

// TestLifecycleThatIsNotKeptIsUnsupported: MinIO expires objects but has no rule
// for unfinished uploads, which it drops by itself; VersityGW has no rules.
func TestLifecycleThatIsNotKeptIsUnsupported(t *testing.T) {
	t.Parallel()
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		a := admin(t, open(t, config(t, server)))
		for _, want := range []s3blob.Lifecycle{{AbortDays: 1}, {AbortDays: 1, ExpireDays: 2}} {
			if err := a.SetLifecycle(t.Context(), want); !errors.Is(err, blob.ErrUnsupported) {
				t.Errorf("SetLifecycle(%+v) = %v, want ErrUnsupported", want, err)
			}
		}
		got, err := a.Lifecycle(t.Context())
		switch server.Name {
		case "minio":
			if err != nil || got != (s3blob.Lifecycle{ExpireDays: 2}) {
				t.Errorf("Lifecycle = %+v, %v, want the rest of the rule", got, err)
			}
		default:
			if !errors.Is(err, blob.ErrUnsupported) {
				t.Errorf("Lifecycle = %+v, %v, want ErrUnsupported", got, err)
			}
		}
	})
}

// lifecycles is a store that keeps all rules.
type lifecycles struct {
	s3blob.API
	s3blob.AdminAPI
	rules   []types.LifecycleRule
	minimum types.TransitionDefaultMinimumObjectSize
}

// What both interfaces have needs a choice.
func (l *lifecycles) ListObjectsV2(ctx context.Context, in *s3.ListObjectsV2Input, o ...func(*s3.Options)) (*s3.ListObjectsV2Output, error) {
	return l.API.ListObjectsV2(ctx, in, o...)
}

func (l *lifecycles) PutObject(ctx context.Context, in *s3.PutObjectInput, o ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	return l.API.PutObject(ctx, in, o...)
}

func (l *lifecycles) GetObject(ctx context.Context, in *s3.GetObjectInput, o ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	return l.API.GetObject(ctx, in, o...)
}

func (l *lifecycles) DeleteObject(ctx context.Context, in *s3.DeleteObjectInput, o ...func(*s3.Options)) (*s3.DeleteObjectOutput, error) {
	return l.API.DeleteObject(ctx, in, o...)
}

func (l *lifecycles) DeleteObjects(ctx context.Context, in *s3.DeleteObjectsInput, o ...func(*s3.Options)) (*s3.DeleteObjectsOutput, error) {
	return l.API.DeleteObjects(ctx, in, o...)
}

func (l *lifecycles) GetBucketLifecycleConfiguration(context.Context, *s3.GetBucketLifecycleConfigurationInput, ...func(*s3.Options)) (*s3.GetBucketLifecycleConfigurationOutput, error) {
	return &s3.GetBucketLifecycleConfigurationOutput{Rules: l.rules, TransitionDefaultMinimumObjectSize: l.minimum}, nil
}

func (l *lifecycles) PutBucketLifecycleConfiguration(_ context.Context, in *s3.PutBucketLifecycleConfigurationInput, _ ...func(*s3.Options)) (*s3.PutBucketLifecycleConfigurationOutput, error) {
	l.rules, l.minimum = in.LifecycleConfiguration.Rules, in.TransitionDefaultMinimumObjectSize
	return &s3.PutBucketLifecycleConfigurationOutput{}, nil
}

// TestLifecycleRulesOfEveryForm needs what neither server here keeps.
func TestLifecycleRulesOfEveryForm(t *testing.T) {
	t.Parallel()
	abort := func(prefix *string, filter *types.LifecycleRuleFilter, days int32) types.LifecycleRule {
		return types.LifecycleRule{
			Status: types.ExpirationStatusEnabled, Filter: filter, Prefix: prefix, //nolint:staticcheck // older rules have it there
			AbortIncompleteMultipartUpload: &types.AbortIncompleteMultipartUpload{DaysAfterInitiation: &days},
		}
	}
	tag := &types.Tag{Key: aws.String("k"), Value: aws.String("v")}
	const minimum = types.TransitionDefaultMinimumObjectSizeVariesByStorageClass
	api := &lifecycles{minimum: minimum, rules: []types.LifecycleRule{
		abort(nil, &types.LifecycleRuleFilter{Tag: tag}, 1),
		abort(nil, &types.LifecycleRuleFilter{ObjectSizeGreaterThan: aws.Int64(5)}, 1),
		abort(nil, &types.LifecycleRuleFilter{And: &types.LifecycleRuleAndOperator{Prefix: aws.String("some/"), Tags: []types.Tag{*tag}}}, 1),
		abort(aws.String("some/prefixes/"), nil, 1),
		abort(aws.String("some/"), nil, 8),
		abort(nil, &types.LifecycleRuleFilter{And: &types.LifecycleRuleAndOperator{Prefix: aws.String("some/prefix/")}}, 7),
		abort(nil, nil, 9),
	}}
	store, err := s3blob.New(s3blob.Config{Bucket: "b", Pool: pool(t, blob.PoolConfig{})}, api)
	if err != nil {
		t.Fatal(err)
	}
	a := admin(t, store)
	if got, err := a.Lifecycle(t.Context()); err != nil || got != (s3blob.Lifecycle{AbortDays: 7}) {
		t.Errorf("Lifecycle = %+v, %v, want abort after 7 days", got, err)
	}
	want := s3blob.Lifecycle{AbortDays: 2, ExpireDays: 3}
	if err := a.SetLifecycle(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if got, err := a.Lifecycle(t.Context()); err != nil || got != want || len(api.rules) != 8 || api.minimum != minimum {
		t.Errorf("Lifecycle = %+v, %v, want %+v; %d rules, %s", got, err, want, len(api.rules), api.minimum)
	}
}

func TestLifecycleDaysSpareWhatIsYounger(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for age, want := range map[time.Duration]int{0: 1, time.Second: 1, day: 1, day + 1: 2, 2*day - 1: 2, 25 * time.Hour: 2} {
		if got := s3blob.LifecycleDays(age); got != want {
			t.Errorf("LifecycleDays(%v) = %d, want %d", age, got, want)
		}
	}
}

// TestCORSIsSetBesideTheRulesOfOthers asks as a browser does, too. MinIO keeps no
// rules of a bucket and answers every origin, unless MINIO_API_CORS_ALLOW_ORIGIN
// says otherwise.
func TestCORSIsSetBesideTheRulesOfOthers(t *testing.T) {
	t.Parallel()
	const origin, other, stranger = "https://canvas.example", "https://other.example", "https://stranger.example"
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		store := open(t, config(t, server))
		a := admin(t, store)
		minio := server.Name == "minio"
		if origins, err := a.CORSOrigins(t.Context()); err != nil || len(origins) != 0 {
			t.Errorf("CORSOrigins of a new bucket = %v, %v", origins, err)
		}
		if !minio {
			theirs := []types.CORSRule{{ID: aws.String("theirs"), AllowedOrigins: []string{other}, AllowedMethods: []string{"GET"}}}
			if _, err := client(server).PutBucketCors(t.Context(), &s3.PutBucketCorsInput{
				Bucket: &server.Bucket, CORSConfiguration: &types.CORSConfiguration{CORSRules: theirs},
			}); err != nil {
				t.Fatal(err)
			}
		}
		for _, origins := range [][]string{{"https://earlier.example"}, {origin, "https://second.example"}} {
			err := a.SetCORS(t.Context(), origins...)
			if minio != errors.Is(err, blob.ErrUnsupported) || !minio && err != nil {
				t.Fatalf("SetCORS = %v", err)
			}
		}
		if err := a.SetCORS(t.Context()); err == nil {
			t.Error("SetCORS without an origin succeeded")
		}
		if !minio {
			origins, err := a.CORSOrigins(t.Context())
			if diff := cmp.Diff([]string{origin, "https://second.example"}, origins); err != nil || diff != "" {
				t.Errorf("CORSOrigins: %v (-want +got):\n%s", err, diff)
			}
			out, err := client(server).GetBucketCors(t.Context(), &s3.GetBucketCorsInput{Bucket: &server.Bucket})
			if err != nil || len(out.CORSRules) != 2 {
				t.Errorf("%d rules, %v, want theirs and ours", len(out.CORSRules), err)
			}
		}
		for _, c := range []struct {
			origin string
			get    bool
			put    bool
		}{{origin, true, true}, {other, true, minio}, {stranger, minio, minio}} {
			for _, r := range []blob.SignedRequest{presignedGet(t, store, "k"), presignedPut(t, store, 1)} {
				want := c.get
				if r.Method == http.MethodPut {
					want = c.put
				}
				if got, err := s3blob.Preflight(t.Context(), http.DefaultClient, r, c.origin); err != nil || got != want {
					t.Errorf("preflight of %s from %s = %t, %v, want %t", r.Method, c.origin, got, err, want)
				}
			}
		}
	})
}

func TestPreflightErrorsHideTheURL(t *testing.T) {
	t.Parallel()
	cfg := afar(t)
	cfg.Endpoint = "http://127.0.0.1:1"
	r := presignedPut(t, open(t, cfg), 1)
	if _, err := s3blob.Preflight(t.Context(), http.DefaultClient, r, "https://a.example"); err == nil || strings.Contains(err.Error(), "Signature") {
		t.Errorf("Preflight = %v, want an error without the URL", err)
	}
}

func TestPublicAccessIsFound(t *testing.T) {
	t.Parallel()
	policy := func(bucket, action, resource string) string {
		return fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["*"]},"Action":["s3:%s"],"Resource":["arn:aws:s3:::%s%s"]}]}`, action, bucket, resource)
	}
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		store := open(t, config(t, server))
		a := admin(t, store)
		set := func(text string) {
			t.Helper()
			if _, err := client(server).PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: &server.Bucket, Policy: &text}); err != nil {
				t.Fatal(err)
			}
		}
		check := func(name string, list, read bool) {
			t.Helper()
			got, err := a.PublicAccess(t.Context())
			if err != nil || got.List != list || got.Read != read || got.Any() != (list || read || got.Policy) {
				t.Errorf("%s: PublicAccess = %+v, %v", name, got, err)
			}
			if got.Policy && !list && !read {
				t.Errorf("%s: the policy is public", name)
			}
		}
		check("no policy", false, false)
		set(policy(server.Bucket, "GetObject", "/some/prefix/*"))
		check("objects", false, true)
		set(policy(server.Bucket, "ListBucket", ""))
		check("listing", true, false)
		empty(t, store)
	})
}
