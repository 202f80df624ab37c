package s3blob_test

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// TestVirtualHostStyle has the bucket in the host name, as AWS has it: content goes
// both ways, proxied and presigned, over HTTP and over TLS with a certificate for
// all names below the store's domain. No DNS knows that, so connections go to the
// server whatever the name.
func TestVirtualHostStyle(t *testing.T) {
	t.Parallel()
	own := newAuthority(t)
	for name, start := range servers {
		for scheme, transport := range map[string]*http.Transport{"http": {}, "https": own.client(t).Transport.(*http.Transport)} {
			server := start(t)
			if server.Domain == "" {
				continue // S3_ENDPOINT names the server, and nobody has said its domain
			}
			t.Run(name+"/"+scheme, func(t *testing.T) {
				t.Parallel()
				if scheme == "https" {
					server.Endpoint = tlsFront(t, server, own, server.Domain, "*."+server.Domain).URL
				}
				virtualCell(t, server, transport).run(t, matrixSizes)
			})
		}
	}
}

func virtualCell(t *testing.T, server devstack.S3, transport *http.Transport) cell {
	t.Helper()
	at, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	transport = transport.Clone()
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, at.Host)
	}
	t.Cleanup(transport.CloseIdleConnections)
	named := &namedHosts{RoundTripper: transport, bucket: server.Bucket + "." + server.Domain}
	web := &http.Client{Transport: named}

	cfg := config(t, server)
	cfg.PathStyle = false
	cfg.Endpoint = at.Scheme + "://" + net.JoinHostPort(server.Domain, at.Port())
	store, err := s3blob.New(cfg, s3.New(s3.Options{
		Region: cfg.Region, BaseEndpoint: aws.String(cfg.Endpoint), Credentials: cfg.Credentials, HTTPClient: web,
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if named.other.Load() != 0 || named.requests.Load() == 0 {
			t.Errorf("%d of %d requests do not have the bucket in their host name", named.other.Load(), named.requests.Load())
		}
	})
	return cell{store: store, client: web}
}

// namedHosts counts requests that do not go to the bucket's own name.
type namedHosts struct {
	http.RoundTripper
	bucket          string
	requests, other atomic.Int64
}

func (n *namedHosts) RoundTrip(r *http.Request) (*http.Response, error) {
	n.requests.Add(1)
	if r.URL.Hostname() != n.bucket {
		n.other.Add(1)
	}
	return n.RoundTripper.RoundTrip(r)
}
