package server_test

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/server"
	"github.com/molecule-ai/pendinguploads/storage"
)

func TestMain(m *testing.M) { devstack.Main(m) }

// Where small files go inline and large ones to S3, an upload holds a reservation
// while it waits for a part buffer: half the memory stays for buffers. Where all is
// inline, nothing needs them.
func TestInlineContentLeavesMemoryForPartBuffers(t *testing.T) {
	s3 := devstack.MinIO(t)
	t.Setenv("AWS_ACCESS_KEY_ID", s3.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3.SecretKey)
	uploads := server.Uploads{
		MaxFileBytes: storage.DefaultMaxFileBytes, MaxRequestBytes: storage.DefaultMaxRequestBytes,
		UploadTTL: time.Hour, MaxUploadTime: time.Minute, UploadMemoryBytes: 256 * storage.MiB, InlineMaxBytes: 64 << 10,
	}
	mixed := server.Objects{S3Bucket: s3.Bucket, S3Endpoint: s3.Endpoint, S3Region: s3.Region, S3UsePathStyle: s3.PathStyle, S3Checksum: "when_supported"}
	for name, c := range map[string]struct {
		objects server.Objects
		most    int64
	}{
		"mixed":  {mixed, 128 * storage.MiB},
		"inline": {server.Objects{}, 251 * storage.MiB},
	} {
		_, _, pool, err := server.OpenStaging(t.Context(), c.objects, uploads, nil, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := pool.Reserve(t.Context(), c.most+1); !errors.Is(err, blob.ErrOverBudget) {
			t.Errorf("%s: a reservation of %d bytes: %v, want ErrOverBudget", name, c.most+1, err)
		}
		release, err := pool.Reserve(t.Context(), c.most)
		if err != nil {
			t.Fatalf("%s: a reservation of %d bytes: %v", name, c.most, err)
		}
		release()
	}
}

// The least memory that is accepted works, and a threshold beyond the per-file cap
// is no more than the cap.
func TestLeastMemory(t *testing.T) {
	t.Parallel()
	uploads := server.Uploads{
		MaxFileBytes: storage.MiB, MaxRequestBytes: 2 * storage.MiB, UploadTTL: time.Hour, MaxUploadTime: time.Minute,
		InlineMaxBytes: 1 << 60, UploadMemoryBytes: 11*storage.MiB - 1,
	}
	open := func() error {
		_, _, _, err := server.OpenStaging(t.Context(), server.Objects{}, uploads, nil, nil, slog.New(slog.DiscardHandler))
		return err
	}
	if err := open(); err == nil {
		t.Error("too little memory was accepted")
	}
	uploads.UploadMemoryBytes++
	if err := open(); err != nil {
		t.Error(err)
	}
}
