package s3blob_test

import (
	"encoding/pem"
	"io"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// TestCABundleFromTheEnvironmentIsTrusted also sends the largest parts the way
// the SDK sends them over TLS: as one chunk with a checksum behind it. It sets
// the environment, so it is not parallel.
func TestCABundleFromTheEnvironmentIsTrusted(t *testing.T) {
	server := devstack.MinIO(t)
	target, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is part of the signature
	}})
	defer front.Close()

	cfg := config(t, server)
	cfg.Endpoint = front.URL
	cfg.MaxRetries = -1
	cfg.Pool = pool(t, blob.PoolConfig{PartBytes: blob.MaxPartBytes, BudgetBytes: 4 * blob.MaxPartBytes})
	if err := open(t, cfg).Ready(t.Context()); err == nil {
		t.Error("a certificate of an unknown authority was trusted")
	}

	bundle := filepath.Join(t.TempDir(), "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
	if err := os.WriteFile(bundle, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", bundle)
	store := open(t, cfg)
	const size = blob.MaxPartBytes + 5*mib
	put(t, store, "small", blob.MaxPartBytes)
	put(t, store, "large", size)
	r, err := store.Open(t.Context(), "large", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n, err := io.Copy(io.Discard, r); n != size || err != nil {
		t.Errorf("read %d bytes, %v, want %d", n, err, size)
	}
}
