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
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
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

// TestSupportIsProbed: both servers take what AWS takes. What others take is
// tried with the real one behind a front that behaves like them.
func TestSupportIsProbed(t *testing.T) {
	t.Parallel()
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		for _, c := range []struct {
			name        string
			wrap        func(http.Handler) http.Handler
			conditional bool
			deletes     s3blob.DeleteSupport
		}{
			{"as it is", nil, true, s3blob.DeleteManyCRC32},
			{"ignores conditions and wants MD5", withoutConditions(wantsMD5("MissingContentMD5")), false, s3blob.DeleteManyMD5},
			{"wants MD5 in other words", wantsMD5("InvalidRequest"), true, s3blob.DeleteManyMD5},
			{"knows neither", knowsNeither, false, s3blob.DeleteOneByOne},
		} {
			cfg := config(t, server)
			cfg.Endpoint = front(t, server, c.wrap).URL
			cfg.MaxRetries = -1
			store := open(t, cfg)
			a := admin(t, store)
			if got, err := a.ConditionalWrites(t.Context()); err != nil || got != c.conditional {
				t.Errorf("%s: ConditionalWrites = %t, %v", c.name, got, err)
			}
			if got, err := a.DeleteSupport(t.Context()); err != nil || got != c.deletes {
				t.Errorf("%s: DeleteSupport = %q, %v, want %q", c.name, got, err, c.deletes)
			}
			put(t, store, "one", 1)
			put(t, store, "two", 1)
			if err := store.Delete(t.Context(), "one", "two", "absent"); err != nil {
				t.Errorf("%s: Delete: %v", c.name, err)
			}
			empty(t, store)
		}
	})
}

// withoutConditions takes every conditional put. The condition is signed, so it
// answers in the server's place instead of taking it out.
func withoutConditions(next func(http.Handler) http.Handler) func(http.Handler) http.Handler {
	return func(server http.Handler) http.Handler {
		server = next(server)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut && r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(http.StatusOK)
				return
			}
			server.ServeHTTP(w, r)
		})
	}
}

// wantsMD5 takes Content-MD5 as the only checksum of a deletion of many.
func wantsMD5(code string) func(http.Handler) http.Handler {
	return func(server http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			flexible := r.Header.Get("X-Amz-Checksum-Crc32") != "" || r.Header.Get("X-Amz-Sdk-Checksum-Algorithm") != ""
			if r.Method == http.MethodPost && r.URL.Query().Has("delete") && (flexible || r.Header.Get("Content-Md5") == "") {
				refusal(w, http.StatusBadRequest, code)
				return
			}
			server.ServeHTTP(w, r)
		})
	}
}

// knowsNeither has no conditional writes and no deletion of many.
func knowsNeither(server http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" || r.Method == http.MethodPost && r.URL.Query().Has("delete") {
			refusal(w, http.StatusNotImplemented, "NotImplemented")
			return
		}
		server.ServeHTTP(w, r)
	})
}

func TestDeletionCarriesMD5WhereChecksumsAreRequiredOnly(t *testing.T) {
	t.Parallel()
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		cfg := config(t, server)
		cfg.Endpoint = front(t, server, func(server http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for name := range r.Header {
					if strings.HasPrefix(name, "X-Amz-Checksum-") || strings.HasPrefix(name, "X-Amz-Sdk-Checksum-") || name == "X-Amz-Trailer" {
						t.Errorf("%s has %s", r.Method, name)
					}
				}
				wantsMD5("MissingContentMD5")(server).ServeHTTP(w, r)
			})
		}).URL
		cfg.Checksum = s3blob.ChecksumWhenRequired
		store := open(t, cfg)
		put(t, store, "small", 1)
		put(t, store, "large", 6*mib)
		if err := store.Delete(t.Context(), "small", "large"); err != nil {
			t.Error(err)
		}
		empty(t, store)
		if server.Name == "minio" {
			if err := admin(t, store).SetLifecycle(t.Context(), s3blob.Lifecycle{ExpireDays: 1}); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestDeletionOneByOneReportsTheFirstRefusal(t *testing.T) {
	t.Parallel()
	server := devstack.MinIO(t)
	cfg := config(t, server)
	cfg.MaxRetries = -1
	cfg.Endpoint = front(t, server, func(server http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodDelete && strings.HasSuffix(r.URL.Path, "/locked") {
				refusal(w, http.StatusForbidden, "AccessDenied")
				return
			}
			knowsNeither(server).ServeHTTP(w, r)
		})
	}).URL
	store := open(t, cfg)
	put(t, store, "a", 1)
	if err := store.Delete(t.Context(), "locked", "a"); err == nil || !strings.Contains(err.Error(), "locked") {
		t.Errorf("Delete = %v, want an error that names the locked one", err)
	}
	empty(t, store)
}

func TestVersionsAreSeen(t *testing.T) {
	t.Parallel()
	server := devstack.MinIO(t)
	store := open(t, config(t, server))
	a := admin(t, store)
	if versioned, err := a.Versioned(t.Context()); err != nil || versioned {
		t.Errorf("Versioned = %t, %v, want false", versioned, err)
	}
	if _, err := client(server).PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{
		Bucket: &server.Bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled},
	}); err != nil {
		t.Fatal(err)
	}
	if versioned, err := a.Versioned(t.Context()); err != nil || !versioned {
		t.Errorf("Versioned = %t, %v, want true", versioned, err)
	}
}

// wrongClock signs as a host would whose clock is wrong.
type wrongClock struct {
	s3.HTTPSignerV4
	by time.Duration
}

func (w wrongClock) SignHTTP(ctx context.Context, keys aws.Credentials, r *http.Request, hash, service, region string, at time.Time, o ...func(*v4.SignerOptions)) error {
	return w.HTTPSignerV4.SignHTTP(ctx, keys, r, hash, service, region, at.Add(w.by), o...)
}

// TestClockThatIsRefusedIsNamed sees the real servers' refusals.
func TestClockThatIsRefusedIsNamed(t *testing.T) {
	t.Parallel()
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		for _, by := range []time.Duration{-time.Hour, time.Hour} {
			skewed := s3.New(client(server).Options(), func(o *s3.Options) {
				o.HTTPSignerV4, o.AuthSchemes = wrongClock{v4.NewSigner(), by}, nil
				o.RetryMaxAttempts = 1
			})
			store, err := s3blob.New(config(t, server), skewed)
			if err != nil {
				t.Fatal(err)
			}
			_, clock := admin(t, store).ClockSkew(t.Context())
			_, opened := store.Open(t.Context(), "a", 0, 0)
			for name, err := range map[string]error{
				"ClockSkew": clock,
				"Open":      opened,
				"Put":       store.Put(t.Context(), "a", body(1), blob.PutOptions{}),
			} {
				if !errors.Is(err, blob.ErrClockSkew) {
					t.Errorf("%s with a clock off by %v = %v, want ErrClockSkew", name, by, err)
				}
			}
		}
	})
}

// TestClocksAreCompared moves the store's clock by its Date alone; the answers'
// dates are not signed. What a refusal without a code means shows there, too.
func TestClocksAreCompared(t *testing.T) {
	t.Parallel()
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		for _, by := range []time.Duration{0, -20 * time.Minute, 20 * time.Minute} {
			cfg := config(t, server)
			cfg.MaxRetries = -1
			cfg.Endpoint = front(t, server, func(server http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodHead {
						w.Header().Set("Date", time.Now().Add(by).UTC().Format(http.TimeFormat))
						w.WriteHeader(http.StatusForbidden)
						return
					}
					server.ServeHTTP(&dated{w, by}, r)
				})
			}).URL
			store := open(t, cfg)
			got, err := admin(t, store).ClockSkew(t.Context())
			// A Date has whole seconds, and VersityGW renews it once a second.
			if err != nil || (got-by).Abs() > 10*time.Second {
				t.Errorf("ClockSkew = %v, %v, want about %v", got, err, by)
			}
			if err := store.Ready(t.Context()); err == nil || errors.Is(err, blob.ErrClockSkew) != (by != 0) {
				t.Errorf("a refusal without a code, clocks %v apart: %v", by, err)
			}
		}
	})
}

// dated moves the Date of an answer.
type dated struct {
	http.ResponseWriter
	by time.Duration
}

func (d *dated) WriteHeader(status int) {
	d.Header().Set("Date", time.Now().Add(d.by).UTC().Format(http.TimeFormat))
	d.ResponseWriter.WriteHeader(status)
}
