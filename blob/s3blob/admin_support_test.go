package s3blob_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

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
