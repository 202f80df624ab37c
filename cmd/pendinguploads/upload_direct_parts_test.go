package main

import (
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

// The sender is killed while its last part is on its way, and the others are
// there: what is left is for the orphan sweep, and nothing was staged.
func TestUploadDirectKilledBetweenPartsLeavesAnOrphan(t *testing.T) {
	t.Parallel()
	s := newStackOn(t, devstack.MinIOUser(t))
	var others sync.WaitGroup
	others.Add(4)
	last := make(chan struct{})
	front := inFrontOf(t, s.s3.Endpoint, func(w http.ResponseWriter, r *http.Request, store http.Handler) {
		if r.URL.Query().Get("partNumber") == "5" {
			_, _ = io.Copy(io.Discard, r.Body)
			close(last)
			<-r.Context().Done()
			return
		}
		store.ServeHTTP(w, r)
		others.Done()
	})
	name := filepath.Join(t.TempDir(), "large.bin")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, storage.DirectPartsFrom+1); err != nil {
		t.Fatal(err)
	}
	p := serve(t, append(s.env, "MAX_FILE_BYTES=104857600", "MAX_REQUEST_BYTES=209715200", "S3_PUBLIC_ENDPOINT="+front))
	sender := command(t, s.user(t, p), "upload", "--direct", name)
	var said strings.Builder
	sender.Stdout, sender.Stderr = &said, &said
	if err := sender.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- sender.Wait() }()
	select {
	case <-last:
	case err := <-ended:
		t.Fatalf("upload ended: %v\n%s", err, said.String())
	}
	others.Wait()
	if err := sender.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("upload ended well")
	}
	p.stop(t)
	if n := s.rows(t, "pending_uploads") + s.rows(t, "activity_logs"); n != 0 {
		t.Errorf("%d rows of an upload that never ended", n)
	}
	if n, unfinished := s.inBucket(t); n != 0 || unfinished != 1 {
		t.Errorf("%d objects and %d unfinished uploads, want the one upload", n, unfinished)
	}

	objects, _ := s.objects(t)
	db, err := metadata.Open(t.Context(), metadata.PoolConfig{URL: s.database})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for want, after := range []time.Duration{0, 2 * time.Hour} { // none, then one
		sweeper, err := staging.New(staging.Config{
			Rows: metadata.NewUploads(metadata.UploadsConfig{DB: db}), Objects: objects, KeyPrefix: "pending-uploads",
			Now: func() time.Time { return time.Now().Add(after) }, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := sweeper.SweepOrphans(t.Context(), time.Hour); err != nil || r != (storage.OrphanResult{Uploads: want}) {
			t.Errorf("orphans after %v: %+v, %v; want %d uploads", after, r, err, want)
		}
	}
	if n, unfinished := s.inBucket(t); n+unfinished != 0 {
		t.Errorf("%d objects and %d unfinished uploads are left", n, unfinished)
	}
}
