package matrix

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/servertest"
	"github.com/molecule-ai/pendinguploads/storage"
)

// service is the host name that the service is called by: another one than the
// store's, or nothing would be redirected there.
const service = "uploads.test"

// columns are the stores, and how they are reached. Path style always: the servers
// have no domain of their own.
var columns = []struct {
	name string
	open func(testing.TB) devstack.S3
	tls  bool
	env  string
}{
	{"MinIO, HTTP", devstack.MinIOUser, false, ""},
	// The policy that MinIO needs for direct uploads forbids the form in which the
	// SDK sends its checksums over TLS (docs/direct.md).
	{"MinIO, HTTPS", devstack.MinIOUser, true, "S3_CHECKSUM=when_required"},
	{"VersityGW, HTTP", devstack.VersityGW, false, ""},
	{"VersityGW, HTTPS", devstack.VersityGW, true, ""},
}

// TestMatrix moves all sizes under one name and all names with one size, through
// the product, in and out by every way. What was taken is acknowledged, and must
// be gone from the store in the end.
func TestMatrix(t *testing.T) {
	t.Parallel()
	results := newTable()
	t.Run("stores", func(t *testing.T) {
		for _, column := range columns {
			t.Run(column.name, func(t *testing.T) {
				t.Parallel()
				newCell(t, column.name, column.open(t), column.tls, results, column.env).run(t)
			})
		}
	})
	t.Run("page", func(t *testing.T) { results.isOn(t, "../../docs/stores.md") }) //nolint:paralleltest // after the stores
}

// cell is the product over one store.
type cell struct {
	column  string
	results *table
	bucket  devstack.S3 // without the front
	ws      storage.WorkspaceID
	token   string
	store   string       // host and port
	web     *http.Client // as plain as any reader's: it follows redirects
	client  *client.Client
}

func newCell(t *testing.T, column string, bucket devstack.S3, secure bool, results *table, env ...string) *cell {
	t.Helper()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	c := &cell{column: column, results: results, bucket: bucket, web: &http.Client{Transport: transport}}
	env = append(env,
		"MAX_FILE_BYTES=104857600", "MAX_REQUEST_BYTES=115343360", "ACK_RETENTION=1ns", "SWEEP_INTERVAL=1s",
		"CONTENT_DELIVERY=redirect", "PUBLIC_URL=http://"+service,
	)
	if secure {
		front := secured(t, bucket)
		bundle := filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		bucket.Endpoint = front.URL
		env = append(env, "AWS_CA_BUNDLE="+bundle)
		transport.TLSClientConfig = front.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	}
	stack := servertest.NewStackOn(t, bucket, env...)
	server := stack.Serve(t)
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr == service+":80" {
			addr = strings.TrimPrefix(server.URL, "http://")
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	endpoint, err := url.Parse(bucket.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	c.store = endpoint.Host
	c.ws, c.token = stack.Workspace(t, "matrix")
	c.client = server.Client(t, c.ws, c.token, func(cfg *client.Config) {
		cfg.BaseURL, cfg.HTTP = "http://"+service, c.web
	})
	return c
}

// secured is a front that speaks TLS, with a certificate that no system trusts. It
// keeps the Host that it is called by, which is part of every signature, and fails
// the test where a token of ours reaches the store.
func secured(t *testing.T, bucket devstack.S3) *httptest.Server {
	t.Helper()
	target, err := url.Parse(bucket.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	proxy := &httputil.ReverseProxy{
		Transport: transport, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
	}
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a := r.Header.Get("Authorization"); a != "" && !strings.HasPrefix(a, "AWS4-HMAC-SHA256 ") {
			t.Errorf("%s reached the store with a token", r.Method)
		}
		proxy.ServeHTTP(w, r)
	}))
	front.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	front.StartTLS()
	t.Cleanup(front.Close)
	return front
}

func (c *cell) run(t *testing.T) {
	ways := []struct {
		name string
		send func(context.Context, client.File) ([]wire.UploadedFile, error)
	}{
		{inMultipart, func(ctx context.Context, f client.File) ([]wire.UploadedFile, error) {
			return c.client.Upload(ctx, []client.File{f}, client.UploadOptions{})
		}},
		{inDirect, func(ctx context.Context, f client.File) ([]wire.UploadedFile, error) {
			return c.client.UploadDirect(ctx, []client.File{f}, client.DirectOptions{})
		}},
	}
	for _, way := range ways {
		for _, size := range sizes {
			staged, err := way.send(t.Context(), file("matrix.bin", size))
			if err != nil {
				t.Errorf("%d bytes in by %s: %v", size, way.name, err)
				continue
			}
			c.out(t, way.name, staged[0], "matrix.bin", size, ofSizes)
		}
		for _, name := range names {
			staged, err := way.send(t.Context(), file(name.sent, small))
			if err != nil {
				t.Errorf("%q in by %s: %v", name.sent, way.name, err)
				continue
			}
			c.out(t, way.name, staged[0], name.kept, small, ofNames)
		}
	}
	c.emptied(t)
}

// out reads a file by every way, acknowledges it and records what worked.
func (c *cell) out(t *testing.T, in string, staged wire.UploadedFile, name string, size int64, kind kind) {
	t.Helper()
	if staged.Name != name || staged.Size != size {
		t.Errorf("in by %s: kept as %q with %d bytes, want %q with %d", in, staged.Name, staged.Size, name, size)
	}
	id, err := storage.ParseFileID(staged.URI[strings.LastIndexByte(staged.URI, '/')+1:])
	if err != nil {
		t.Fatal(err)
	}
	for how, read := range map[string]func(*testing.T, string) (*http.Response, error){outProxy: c.proxied, outURL: c.byURL, outRedirect: c.redirected} {
		if err := c.reads(t, read, "/workspaces/"+c.ws.String()+"/pending-uploads/"+id.String()+"/content", name, size); err != nil {
			t.Errorf("%q, %d bytes, in by %s, out by %s: %v", name, size, in, how, err)
			continue
		}
		c.results.worked(row{in, how}, c.column, kind)
	}
	if _, err := c.client.Ack(t.Context(), id, &client.Received{Size: size, SHA256: digest(t, size)}); err != nil {
		t.Errorf("%q, %d bytes, in by %s: ack: %v", name, size, in, err)
	}
}

// reads compares what a way answers with what was staged.
func (c *cell) reads(t *testing.T, read func(*testing.T, string) (*http.Response, error), path, name string, size int64) error {
	t.Helper()
	response, err := read(t, path)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", response.Status)
	}
	// The one name for clients that know no other form, and the encoded one.
	want := `attachment; filename="` + name + `"; filename*=UTF-8''` + name
	if got := response.Header.Get("Content-Disposition"); got != want {
		return fmt.Errorf("Content-Disposition %q, want %q", got, want)
	}
	if got := dispositionName(response.Header); got != name {
		return fmt.Errorf("the name reads as %q", got)
	}
	if got := response.Header.Get("Content-Type"); got != "application/x-matrix" {
		return fmt.Errorf("Content-Type %q", got)
	}
	if response.ContentLength != size {
		return fmt.Errorf("Content-Length %d", response.ContentLength)
	}
	return readWhole(t, response.Body, size)
}

// emptied waits until the sweeper has removed what was acknowledged.
func (c *cell) emptied(t *testing.T) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		page, err := c.bucket.Client().ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &c.bucket.Bucket})
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Contents) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d objects are left after all was acknowledged", len(page.Contents))
		}
	}
}
