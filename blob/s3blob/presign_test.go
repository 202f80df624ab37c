package s3blob_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// afar is a configuration whose store is never called.
func afar(t *testing.T) s3blob.Config {
	t.Helper()
	cfg := config(t, devstack.S3{Bucket: "bucket", Region: "eu-central-1", Endpoint: "https://s3.internal:9000", PathStyle: true, AccessKey: "a", SecretKey: "b"})
	return cfg
}

func presignedPut(t *testing.T, store *s3blob.Store, size int64) blob.SignedRequest {
	t.Helper()
	r, err := store.PresignPut(t.Context(), "k", blob.PresignPutOptions{
		TTL: time.Minute, Size: size, SHA256: sha256.Sum256([]byte("x")), ContentType: "text/x-test", IfNoneMatch: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func presignedGet(t *testing.T, store *s3blob.Store, key string) blob.SignedRequest {
	t.Helper()
	r, err := store.PresignGet(t.Context(), key, blob.PresignGetOptions{TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// query reads a presigned URL's.
func query(t *testing.T, r blob.SignedRequest) url.Values {
	t.Helper()
	u, err := url.Parse(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}

func TestPresignedPutSignsEverythingThatBindsIt(t *testing.T) {
	t.Parallel()
	cfg := afar(t)
	cfg.Encryption, cfg.KMSKeyID, cfg.Tags = s3blob.EncryptionKMS, "key", map[string]string{"b": "2", "a": "one two"}
	store := open(t, cfg)

	r := presignedPut(t, store, 1)
	want := http.Header{
		"Content-Length":                              {"1"},
		"Content-Type":                                {"text/x-test"},
		"If-None-Match":                               {"*"},
		"X-Amz-Checksum-Sha256":                       {"LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE="},
		"X-Amz-Server-Side-Encryption":                {"aws:kms"},
		"X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": {"key"},
		"X-Amz-Tagging":                               {"a=one%20two&b=2"},
	}
	if diff := cmp.Diff(want, r.Header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	const signed = "content-length;content-type;host;if-none-match;x-amz-checksum-sha256;" +
		"x-amz-server-side-encryption;x-amz-server-side-encryption-aws-kms-key-id;x-amz-tagging"
	if got := query(t, r).Get("X-Amz-SignedHeaders"); r.Method != http.MethodPut || got != signed {
		t.Errorf("%s signs %s, want %s", r.Method, got, signed)
	}

	// Of an object of no bytes the SDK signs neither length nor type.
	const signedEmpty = "host;if-none-match;x-amz-checksum-sha256;" +
		"x-amz-server-side-encryption;x-amz-server-side-encryption-aws-kms-key-id;x-amz-tagging"
	if got := query(t, presignedPut(t, store, 0)).Get("X-Amz-SignedHeaders"); got != signedEmpty {
		t.Errorf("an empty put signs %s, want %s", got, signedEmpty)
	}
	if _, err := store.PresignPut(t.Context(), "k", blob.PresignPutOptions{TTL: time.Minute, Size: s3blob.MaxPutBytes + 1, SHA256: sha256.Sum256(nil)}); err == nil {
		t.Error("a put of more than S3 takes was presigned")
	}
}

func TestPresignedGetCarriesNothingBesidesWhatItAsksFor(t *testing.T) {
	t.Parallel()
	r := presignedGet(t, open(t, afar(t)), "k")
	var names []string
	for name := range query(t, r) {
		if !strings.HasPrefix(name, "X-Amz-") {
			names = append(names, name)
		}
	}
	if diff := cmp.Diff([]string{"x-id"}, names); diff != "" || len(r.Header) != 0 || query(t, r).Has("X-Amz-Checksum-Mode") {
		t.Errorf("query beside the signature (-want +got):\n%s%v", diff, r.Header)
	}
}

// TestPublicEndpointIsSignedFor also shows why a URL cannot be moved to another
// host afterwards.
func TestPublicEndpointIsSignedFor(t *testing.T) {
	t.Parallel()
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		outside := front(t, server, nil)
		cfg := config(t, server)
		cfg.PublicEndpoint = outside.URL
		store := open(t, cfg)
		put(t, store, "a", 10)

		get := presignedGet(t, store, "a")
		put := presignedPut(t, store, 1)
		for _, r := range []blob.SignedRequest{get, put} {
			if !strings.HasPrefix(r.URL, outside.URL+"/"+server.Bucket+"/") {
				t.Errorf("%s leads elsewhere than to %s", r.Method, outside.URL)
			}
		}
		if status := fetch(t, get.URL); status != http.StatusOK {
			t.Errorf("through the public endpoint: %d", status)
		}
		moved := server.Endpoint + strings.TrimPrefix(get.URL, outside.URL)
		if status := fetch(t, moved); status != http.StatusForbidden {
			t.Errorf("moved to another host: %d, want 403", status)
		}
	})
}

func fetch(t *testing.T, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestBucketIsInTheHostNameUnlessPathStyle(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		endpoint  string
		pathStyle bool
		want      string
	}{
		{"https://store.example", false, "https://bucket.store.example/k?"},
		{"https://store.example", true, "https://store.example/bucket/k?"},
		{"https://store.example/below", true, "https://store.example/below/bucket/k?"},
		{"http://127.0.0.1:9000", false, "http://127.0.0.1:9000/bucket/k?"}, // no name can be put in front of an address
		{"", false, "https://bucket.s3.eu-central-1.amazonaws.com/k?"},
	} {
		cfg := afar(t)
		cfg.Endpoint, cfg.PathStyle = c.endpoint, c.pathStyle
		if r := presignedGet(t, open(t, cfg), "k"); !strings.HasPrefix(r.URL, c.want) {
			t.Errorf("endpoint %q, path style %t: %s, want %s", c.endpoint, c.pathStyle, strings.SplitAfter(r.URL, "?")[0], c.want)
		}
	}
}

func TestPresignedRequestEndsWithItsCredentials(t *testing.T) {
	t.Parallel()
	ends := time.Now().Add(20 * time.Second)
	cfg := afar(t)
	cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "a", SecretAccessKey: "b", SessionToken: "c", CanExpire: true, Expires: ends}, nil
	})
	r := presignedGet(t, open(t, cfg), "k")
	if !r.Expires.Equal(ends) {
		t.Errorf("it ends at %v, want the credentials' end %v", r.Expires, ends)
	}
	if query(t, r).Get("X-Amz-Security-Token") != "c" {
		t.Error("the session token is not part of the URL")
	}
}

// TestSlowCredentialsDoNotLengthenALife: the date in the URL is that of the
// signing, so what the credentials took comes off.
func TestSlowCredentialsDoNotLengthenALife(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := afar(t)
		cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			time.Sleep(10 * time.Second) //nolint:forbidigo // the bubble's clock
			return aws.Credentials{AccessKeyID: "a", SecretAccessKey: "b"}, nil
		})
		begun := time.Now()
		r := presignedGet(t, open(t, cfg), "k")
		q := query(t, r)
		signed, err := time.Parse("20060102T150405Z", q.Get("X-Amz-Date"))
		if err != nil {
			t.Fatal(err)
		}
		if q.Get("X-Amz-Expires") != "50" || signed.Add(50*time.Second).After(begun.Add(time.Minute)) || !r.Expires.Equal(begun.Truncate(time.Second).Add(time.Minute)) {
			t.Errorf("signed %v for %s s, said to end %v, want %v", signed, q.Get("X-Amz-Expires"), r.Expires, begun.Add(time.Minute))
		}
		if r, err := open(t, cfg).PresignGet(t.Context(), "k", blob.PresignGetOptions{TTL: 10 * time.Second}); err == nil {
			t.Errorf("signed after its end: %v", r)
		}
	})
}

func TestStoreOverAnotherClientCannotPresign(t *testing.T) {
	t.Parallel()
	store := stub(t, answers{})
	if _, err := store.PresignGet(t.Context(), "k", blob.PresignGetOptions{TTL: time.Minute}); !errors.Is(err, blob.ErrUnsupported) {
		t.Errorf("PresignGet = %v, want ErrUnsupported", err)
	}
	if _, err := store.Admin("p"); !errors.Is(err, blob.ErrUnsupported) {
		t.Errorf("Admin = %v, want ErrUnsupported", err)
	}
}

// TestBearerBesideAPresignedURL is what a client does that sends its token along.
// MinIO refuses, VersityGW takes no notice; the service never has both.
func TestBearerBesideAPresignedURL(t *testing.T) {
	t.Parallel()
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		store := open(t, config(t, server))
		put(t, store, "a", 1)
		r := presignedGet(t, store, "a")
		r.Header.Set("Authorization", "Bearer token")
		resp := cell{client: http.DefaultClient}.do(t, r, nil)
		resp.Body.Close()
		want := http.StatusOK
		if server.Name == "minio" {
			want = http.StatusBadRequest
		}
		if resp.StatusCode != want {
			t.Errorf("answered %d, want %d", resp.StatusCode, want)
		}
	})
}
