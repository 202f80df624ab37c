package doctor_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/doctor"
)

// secured is a front that speaks TLS with a certificate of its own, valid for 127.0.0.1
// and that long; file holds the certificate.
func secured(t *testing.T, store devstack.S3, valid time.Duration) (f *httptest.Server, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "store of a test"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(valid),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	f = httptest.NewUnstartedServer(proxy(t, store))
	f.Config.ErrorLog = log.New(t.Output(), "", 0)
	f.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	f.StartTLS()
	t.Cleanup(f.Close)
	return f, file
}

// TestCertificates sets AWS_CA_BUNDLE, as operators do; so it is alone.
func TestCertificates(t *testing.T) {
	const day = 24 * time.Hour
	noBucket := func() others { return withoutBucket().skipped("bucket", "s3 clock") }
	for _, c := range []struct {
		name    string
		valid   time.Duration
		trusted bool
		want    others
		says    string
	}{
		{"good", 30 * day, true, nil, "is valid until"},
		{"ends soon", 10 * day, true, others{"s3 tls": doctor.Warning}, "renew"},
		{"ended", -day, true, others{"s3 tls": doctor.Failure}, "expired"},
		{"of nobody", 30 * day, false, others{"s3 tls": doctor.Failure}, "AWS_CA_BUNDLE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			f, file := secured(t, w.s3, c.valid)
			w.settings.S3Endpoint = f.URL
			if c.trusted {
				t.Setenv("AWS_CA_BUNDLE", file)
			}
			want := c.want
			if want["s3 tls"] == doctor.Failure {
				want = noBucket()
				want["s3 tls"] = doctor.Failure
			}
			says(t, found(t, w.run(t), want)["s3 tls"], c.says)
		})
	}
	t.Run("public", func(t *testing.T) {
		w := newWorld(t)
		f, file := secured(t, w.s3, -day)
		t.Setenv("AWS_CA_BUNDLE", file)
		w.settings.S3PublicEndpoint = f.URL
		says(t, found(t, w.run(t), others{"public tls": doctor.Failure}.skipped("public presign", "cors"))["public tls"], "expired")
	})
	t.Run("public and good", func(t *testing.T) {
		w := newWorld(t)
		f, file := secured(t, w.s3, 30*day)
		t.Setenv("AWS_CA_BUNDLE", file)
		w.settings.S3PublicEndpoint = f.URL
		byName := found(t, w.run(t), nil)
		says(t, byName["public presign"], "PUT and GET work", strings.TrimPrefix(f.URL, "https://"))
	})
}

// 0.0.0.0 leads to this machine, and is not an address of this machine alone.
func TestContentInTheClear(t *testing.T) {
	t.Parallel()
	elsewhere := func(f *httptest.Server) string { return strings.Replace(f.URL, "127.0.0.1", "0.0.0.0", 1) }
	through := func(store http.Handler) http.Handler { return store }
	w := newWorld(t)
	w.settings.S3Endpoint = elsewhere(front(t, w.s3, through))
	says(t, found(t, w.run(t), others{"s3 tls": doctor.Warning})["s3 tls"], "in the clear", "https in S3_ENDPOINT")

	w = newWorld(t)
	w.settings.S3PublicEndpoint = elsewhere(front(t, w.s3, through))
	says(t, found(t, w.run(t), others{"public tls": doctor.Warning})["public tls"], "https in S3_PUBLIC_ENDPOINT")
}
