package s3blob_test

import (
	"crypto/sha256"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// TestAcceptEncodingMayBeChangedOnTheWay has a proxy that adds to it, as Google's
// does in front of its store.
func TestAcceptEncodingMayBeChangedOnTheWay(t *testing.T) {
	t.Parallel()
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		cfg := config(t, server)
		cfg.Endpoint = front(t, server, func(server http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.Header.Get("Authorization"), "accept-encoding") {
					t.Errorf("%s signs Accept-Encoding", r.Method)
				}
				if got := r.Header.Get("Accept-Encoding"); got != "" && got != "identity" {
					t.Errorf("%s accepts %q", r.Method, got)
				}
				r.Header.Set("Accept-Encoding", "identity,gzip(gfe)")
				server.ServeHTTP(w, r)
			})
		}).URL
		store := open(t, cfg)
		put(t, store, "small", 1)
		put(t, store, "large", 6*mib)
		r, err := store.Open(t.Context(), "large", 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if n, err := io.Copy(io.Discard, r); n != 6*mib-1 || err != nil {
			t.Errorf("read %d bytes, %v", n, err)
		}
		if err := store.Delete(t.Context(), "small", "large"); err != nil {
			t.Error(err)
		}
		empty(t, store)
	})
}

// TestTheStoreHoldsABodyToItsDigest: one that is known is what the signature says,
// so a wrong one, or a body that was damaged behind it, is refused.
func TestTheStoreHoldsABodyToItsDigest(t *testing.T) {
	t.Parallel()
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		store := open(t, config(t, server))
		for _, kept := range []bool{false, true} {
			digest := sha256.Sum256([]byte("x"))
			opts := blob.PutOptions{SHA256: kept, Digest: func() [sha256.Size]byte { return digest }}
			if err := store.Put(t.Context(), "right", strings.NewReader("x"), opts); err != nil {
				t.Errorf("kept %t: %v", kept, err)
			}
			if err := store.Put(t.Context(), "wrong", strings.NewReader("y"), opts); err == nil {
				t.Errorf("kept %t: a body with another digest is taken", kept)
			}
		}
		if err := store.Delete(t.Context(), "right"); err != nil {
			t.Error(err)
		}
		empty(t, store)
	})
}

// TestNoAuthorizationButSigV4ReachesTheStore: nothing that the service knows of
// its callers is part of a request to the store.
func TestNoAuthorizationButSigV4ReachesTheStore(t *testing.T) {
	t.Parallel()
	server := devstack.MinIO(t)
	cfg := config(t, server)
	cfg.Endpoint = front(t, server, func(server http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			presigned := r.URL.Query().Has("X-Amz-Signature")
			auth, sent := r.Header["Authorization"]
			if presigned == sent || sent && (len(auth) != 1 || !strings.HasPrefix(auth[0], "AWS4-HMAC-SHA256 ")) || r.Header.Get("Cookie") != "" {
				t.Errorf("%s presigned %t has %d Authorization headers", r.Method, presigned, len(auth))
			}
			server.ServeHTTP(w, r)
		})
	}).URL
	store := open(t, cfg)
	put(t, store, "small", 1)
	put(t, store, "large", 6*mib)
	for _, key := range []string{"small", "large"} {
		if _, err := store.Head(t.Context(), key); err != nil {
			t.Error(err)
		}
		if status := fetch(t, presignedGet(t, store, key).URL); status != http.StatusOK {
			t.Errorf("presigned get of %s: %d", key, status)
		}
	}
	if err := store.Put(t.Context(), "broken", io.MultiReader(body(6*mib), readerFunc(func([]byte) (int, error) { return 0, errFault })), blob.PutOptions{}); err == nil {
		t.Error("a broken body was stored")
	}
	if err := store.Delete(t.Context(), "small", "large"); err != nil {
		t.Error(err)
	}
	empty(t, store)
}
