package s3blob_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// gets counts reads of objects, and those that ask for the store's checksum.
type gets struct {
	http.RoundTripper
	all, checked int
}

func (g *gets) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet && r.URL.Query().Get("x-id") == "GetObject" {
		g.all++
		if r.Header.Get("X-Amz-Checksum-Mode") != "" {
			g.checked++
		}
	}
	return g.RoundTripper.RoundTrip(r)
}

// TestOpenComputesNoChecksum reads an object whose SHA-256 the store keeps, with a
// client that would compare it if it were told.
func TestOpenComputesNoChecksum(t *testing.T) {
	t.Parallel()
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		cfg := config(t, server)
		seen := &gets{RoundTripper: http.DefaultTransport}
		store, err := s3blob.New(cfg, s3.New(s3.Options{
			Region: cfg.Region, BaseEndpoint: aws.String(cfg.Endpoint), UsePathStyle: cfg.PathStyle, Credentials: cfg.Credentials,
			HTTPClient: &http.Client{Transport: seen}, ResponseChecksumValidation: aws.ResponseChecksumValidationWhenSupported,
		}))
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Put(t.Context(), "a", bytes.NewReader([]byte("hello")), blob.PutOptions{SHA256: true}); err != nil {
			t.Fatal(err)
		}
		body, err := store.Open(t.Context(), "a", 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		if err != nil || body.Close() != nil || string(got) != "hello" {
			t.Errorf("%q, %v", got, err)
		}
		if seen.all != 1 || seen.checked != 0 {
			t.Errorf("%d of %d reads ask for the checksum", seen.checked, seen.all)
		}
	})
}
