package s3blob_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"go.uber.org/goleak"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/blobtest"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

const mib = 1 << 20

func TestMain(m *testing.M) {
	devstack.Main(m, func() error {
		return goleak.Find(
			// Idle connections outlive their client by design.
			goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
			goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		)
	})
}

func TestConformance(t *testing.T) {
	t.Parallel()
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		blobtest.Run(t, func(t *testing.T) blob.Store { return open(t, config(t, server)) })
	})
}

// config returns the configuration for a server, with memory for four buffers,
// so that several puts have to share. Its pool must be whole again when the test
// ends.
func config(t *testing.T, server devstack.S3) s3blob.Config {
	t.Helper()
	return s3blob.Config{
		Bucket:      server.Bucket,
		Region:      server.Region,
		Endpoint:    server.Endpoint,
		PathStyle:   server.PathStyle,
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, server.SessionToken),
		Pool:        pool(t, blob.PoolConfig{BudgetBytes: 4 * blob.DefaultPartBytes, MaxWait: 5 * time.Minute}),
	}
}

func pool(t *testing.T, cfg blob.PoolConfig) *blob.Pool {
	t.Helper()
	p, err := blob.NewPool(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s := p.Stats(); s.InUseBytes != 0 || s.Waiting != 0 {
			t.Errorf("the pool is not whole again: %+v", s)
		}
	})
	return p
}

func open(t *testing.T, cfg s3blob.Config) *s3blob.Store {
	t.Helper()
	store, err := s3blob.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// client returns the SDK's own client for a server.
func client(server devstack.S3) *s3.Client {
	return s3.New(s3.Options{
		Region:       server.Region,
		BaseEndpoint: aws.String(server.Endpoint),
		UsePathStyle: server.PathStyle,
		Credentials:  credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, server.SessionToken),
	})
}

// put stores size bytes that must be taken.
func put(t *testing.T, store blob.Store, key string, size int) {
	t.Helper()
	if err := store.Put(t.Context(), key, body(size), blob.PutOptions{}); err != nil {
		t.Fatalf("Put(%s): %v", key, err)
	}
}

// body yields size bytes and hides its length.
func body(size int) io.Reader {
	return io.MultiReader(strings.NewReader(strings.Repeat("x", size)))
}

// empty fails the test if the bucket holds anything.
func empty(t *testing.T, store blob.Store) {
	t.Helper()
	for o, err := range store.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		t.Errorf("object %s is left", o.Key)
	}
	for u, err := range store.ListUnfinished(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		t.Errorf("unfinished upload %s of %s is left", u.UploadID, u.Key)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	small := pool(t, blob.PoolConfig{PartBytes: s3blob.MinPartBytes - 1})
	right := pool(t, blob.PoolConfig{})
	for name, cfg := range map[string]s3blob.Config{
		"bucket":      {Pool: right},
		"pool":        {Bucket: "b"},
		"buffers":     {Bucket: "b", Pool: small},
		"concurrency": {Bucket: "b", Pool: right, PartConcurrency: -1},
		"checksum":    {Bucket: "b", Pool: right, Checksum: "always"},
	} {
		if _, err := s3blob.New(cfg, nil); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("wrong %s: error %v does not name it", name, err)
		}
		if _, err := s3blob.Open(t.Context(), cfg); err == nil {
			t.Errorf("wrong %s: Open succeeded", name)
		}
	}
}

func TestStoresWithoutChecksumsWork(t *testing.T) {
	t.Parallel()
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		cfg := config(t, server)
		cfg.Checksum = s3blob.ChecksumWhenRequired
		store := open(t, cfg)
		put(t, store, "small", 10)
		put(t, store, "large", 11*mib)
		r, err := store.Open(t.Context(), "large", 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if n, err := io.Copy(io.Discard, r); n != 11*mib || err != nil {
			t.Errorf("read %d bytes, %v", n, err)
		}
		if err := store.Delete(t.Context(), "small", "large"); err != nil {
			t.Error(err)
		}
		empty(t, store)
	})
}

func TestContentTypeIsStored(t *testing.T) {
	t.Parallel()
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		store := open(t, config(t, server))
		for key, size := range map[string]int{"whole": 10, "parts": 6 * mib} {
			if err := store.Put(t.Context(), key, body(size), blob.PutOptions{ContentType: "text/x-test"}); err != nil {
				t.Fatal(err)
			}
			head, err := client(server).HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &server.Bucket, Key: &key})
			if err != nil {
				t.Fatal(err)
			}
			if got := aws.ToString(head.ContentType); got != "text/x-test" {
				t.Errorf("%s has type %q", key, got)
			}
		}
	})
}

func TestPutIsBusyWhenThePoolStaysExhausted(t *testing.T) {
	t.Parallel()
	server := devstack.MinIO(t)
	cfg := config(t, server)
	cfg.Pool = pool(t, blob.PoolConfig{BudgetBytes: blob.DefaultPartBytes, MaxWait: time.Millisecond})
	store := open(t, cfg)
	held, err := cfg.Pool.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), "a", body(10), blob.PutOptions{}); !errors.Is(err, blob.ErrBusy) {
		t.Errorf("Put = %v, want ErrBusy", err)
	}
	cfg.Pool.Put(held)
	put(t, store, "a", 10)

	// One buffer in all is enough for any size: it is filled and sent in turn.
	put(t, store, "b", 17*mib)
}
