package s3blob_test

import (
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// demanding refuses what is put without all of the headers, as a policy may.
func demanding(headers ...string) func(http.Handler) http.Handler {
	return func(server http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for _, h := range headers {
				if r.Method == http.MethodPut && r.Header.Get(h) == "" {
					refusal(w, http.StatusForbidden, "AccessDenied")
					return
				}
			}
			server.ServeHTTP(w, r)
		})
	}
}

// TestProbesAreProtectedLikeObjects: MinIO has no keys here, so it is asked for
// tags alone.
func TestProbesAreProtectedLikeObjects(t *testing.T) {
	t.Parallel()
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		demands := []string{"X-Amz-Tagging"}
		cfg := config(t, server)
		cfg.Tags = map[string]string{"team": "a"}
		if server.Name != "minio" {
			cfg.Encryption, cfg.KMSKeyID = s3blob.EncryptionKMS, "key"
			demands = append(demands, "X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id")
		}
		cfg.Endpoint = front(t, server, demanding(demands...)).URL
		store := open(t, cfg)
		a := admin(t, store)
		if got, err := a.ConditionalWrites(t.Context()); err != nil || !got {
			t.Errorf("ConditionalWrites = %t, %v", got, err)
		}
		if got, err := a.PublicAccess(t.Context()); err != nil || got.Any() {
			t.Errorf("PublicAccess = %+v, %v", got, err)
		}
		empty(t, store)
	})
}

// TestProtectionForRequestsOfOthers is for those who put through Store.API.
func TestProtectionForRequestsOfOthers(t *testing.T) {
	t.Parallel()
	cfg := afar(t)
	cfg.Encryption, cfg.KMSKeyID, cfg.Tags = s3blob.EncryptionKMS, "key", map[string]string{"team": "a"}
	store := open(t, cfg)
	var put s3.PutObjectInput
	store.ProtectPut(&put)
	var create s3.CreateMultipartUploadInput
	store.ProtectCreate(&create)
	for name, got := range map[string]string{
		"put":    string(put.ServerSideEncryption) + " " + *put.SSEKMSKeyId + " " + *put.Tagging,
		"create": string(create.ServerSideEncryption) + " " + *create.SSEKMSKeyId + " " + *create.Tagging,
	} {
		if got != "aws:kms key team=a" {
			t.Errorf("%s asks for %q", name, got)
		}
	}
}
