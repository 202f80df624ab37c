package s3blob_test

import (
	"archive/tar"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

const trialDir = "some/prefix/.doctor"

// TestWhatStoresMakeOfPresignedPuts: the root user of MinIO, whom no policy binds,
// one whom the documented policy binds, and VersityGW.
func TestWhatStoresMakeOfPresignedPuts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		server  func(testing.TB) devstack.S3
		taken   []string
		noParts string
	}{
		"minio, root": {
			devstack.MinIO, []string{"X-Amz-Copy-Source", "X-Amz-Content-Sha256"},
			"a presigned part can be sent as another one, by X-Amz-Content-Sha256",
		},
		"minio, bound": {devstack.MinIOUser, nil, ""},
		"versitygw":    {devstack.VersityGW, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, c.server(t))
			cfg.PublicEndpoint = "https://files.example.test" // is not asked
			store := open(t, cfg)
			got, err := store.DirectSupport(t.Context(), trialDir)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(blob.DirectSupport{Conditional: true, Checksum: true, Taken: c.taken, Parts: c.noParts == "", NoParts: c.noParts}, got); diff != "" {
				t.Errorf("support (-want +got):\n%s", diff)
			}
			if got.Safe() != (c.taken == nil) || got.SafeParts() != got.Safe() {
				t.Errorf("Safe() = %t, SafeParts() = %t", got.Safe(), got.SafeParts())
			}
			empty(t, store)
		})
	}
}

// documented is the policy of docs/direct.md for a server's bucket.
func documented(t *testing.T, server devstack.S3) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "direct.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(page), "### Policy")
	_, after, _ = strings.Cut(after, "```json\n")
	policy, _, found := strings.Cut(after, "```")
	if !found {
		t.Fatal("docs/direct.md has no policy")
	}
	return strings.NewReplacer("BUCKET", server.Bucket, "PREFIX", "some/prefix").Replace(policy)
}

// worksBelowPrefix does what the service does in its prefix, and only there.
func worksBelowPrefix(t *testing.T, store *s3blob.Store) {
	t.Helper()
	if err := store.EnsureBucket(t.Context(), false); err != nil {
		t.Error(err)
	}
	const one, parts = "some/prefix/one", "some/prefix/in/parts"
	for key, size := range map[string]int{one: 1, parts: 12 * mib} {
		put(t, store, key, size)
		if info, err := store.Head(t.Context(), key); err != nil || info.Size != int64(size) {
			t.Errorf("Head(%s) = %+v, %v", key, info, err)
		}
	}
	if err := store.Delete(t.Context(), one, parts); err != nil {
		t.Error(err)
	}
	if err := store.Put(t.Context(), "elsewhere", body(1), blob.PutOptions{}); err == nil {
		t.Error("the policy allows keys outside the prefix")
	}
	empty(t, store)
}

// TestDocumentedPolicyBinds: the policy binds presigned puts, and leaves the rest.
func TestDocumentedPolicyBinds(t *testing.T) {
	t.Parallel()
	root := devstack.MinIO(t)
	server, err := root.Session(t.Context(), documented(t, root))
	if err != nil {
		t.Fatal(err)
	}
	store := open(t, config(t, server))
	got, err := store.DirectSupport(t.Context(), trialDir)
	if err != nil || !got.Safe() || !got.SafeParts() {
		t.Errorf("support %+v, %v", got, err)
	}
	worksBelowPrefix(t, store)
}

// TestPolicyOfDirectUploadsOverTLS: the SDK's default checksums are sent in the
// form that the policy denies. It sets the environment, so it is not parallel.
func TestPolicyOfDirectUploadsOverTLS(t *testing.T) {
	root := devstack.MinIO(t)
	server, err := root.Session(t.Context(), documented(t, root))
	if err != nil {
		t.Fatal(err)
	}
	authority := newAuthority(t)
	t.Setenv("AWS_CA_BUNDLE", authority.file)
	cfg := config(t, server)
	cfg.Endpoint, cfg.MaxRetries = tlsFront(t, server, authority).URL, -1
	if err := open(t, cfg).Put(t.Context(), "some/prefix/one", body(1), blob.PutOptions{}); err == nil {
		t.Error("the default checksums are taken: docs/direct.md says otherwise")
	}
	cfg.Checksum = s3blob.ChecksumWhenRequired
	store := open(t, cfg)
	worksBelowPrefix(t, store)
	if got, err := store.DirectSupport(t.Context(), trialDir); err != nil || !got.SafeParts() {
		t.Errorf("support %+v, %v", got, err)
	}
}

// TestStoresThatBindLess are the real one behind a front that behaves like them.
func TestStoresThatBindLess(t *testing.T) {
	t.Parallel()
	server := devstack.MinIOUser(t)
	for name, c := range map[string]struct {
		wrap func(http.Handler) http.Handler
		want blob.DirectSupport
		safe bool
	}{
		"no conditions":              {forgetsObjects(t, server), blob.DirectSupport{Checksum: true, Parts: true}, true},
		"conditions unknown":         {knowsNeither, blob.DirectSupport{Checksum: true, Parts: true}, true},
		"no SHA-256":                 {tellsNoSHA256, blob.DirectSupport{Conditional: true, Parts: true}, true},
		"neither":                    {func(h http.Handler) http.Handler { return forgetsObjects(t, server)(tellsNoSHA256(h)) }, blob.DirectSupport{Parts: true}, false},
		"unpacks what it is sent":    {unpacks(t, server, ""), blob.DirectSupport{Conditional: true, Checksum: true, Taken: []string{"X-Amz-Meta-Snowball-Auto-Extract"}, Parts: true}, false},
		"unpacks where it is told":   {unpacks(t, server, "X-Amz-Meta-Minio-Snowball-Prefix"), blob.DirectSupport{Conditional: true, Checksum: true, Taken: []string{"X-Amz-Meta-Snowball-Auto-Extract"}, Parts: true}, false},
		"does not look at the added": {ignoresCopies, blob.DirectSupport{Conditional: true, Checksum: true, Parts: true}, true},
	} {
		cfg := config(t, server)
		cfg.Endpoint, cfg.MaxRetries = front(t, server, c.wrap).URL, -1
		store := open(t, cfg)
		got, err := store.DirectSupport(t.Context(), trialDir)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(c.want, got); diff != "" || got.Safe() != c.safe {
			t.Errorf("%s: Safe() = %t, support (-want +got):\n%s", name, got.Safe(), diff)
		}
		empty(t, store)
	}
}

// TestTrialsWithoutAnAnswerTellNothing: and no secret either.
func TestTrialsWithoutAnAnswerTellNothing(t *testing.T) {
	t.Parallel()
	server := devstack.MinIOUser(t)
	for name, c := range map[string]struct {
		wrap func(http.Handler) http.Handler
		want error
	}{
		"busy at a copy": {refuses(func(r *http.Request) bool { return r.Header.Get("X-Amz-Copy-Source") != "" }, http.StatusServiceUnavailable, "SlowDown"), nil},
		"busy at once":   {refuses(func(r *http.Request) bool { return r.Method == http.MethodPut }, http.StatusServiceUnavailable, "SlowDown"), nil},
		"hangs up":       {hangsUp, nil},
		"a false digest": {tellsAnySHA256, nil},
		"keeps objects":  {refuses(func(r *http.Request) bool { return r.Method == http.MethodDelete }, http.StatusForbidden, "AccessDenied"), blob.ErrProbeRemains},
	} {
		cfg := config(t, server)
		cfg.Endpoint, cfg.MaxRetries = front(t, server, c.wrap).URL, -1
		got, err := open(t, cfg).DirectSupport(t.Context(), trialDir)
		if err == nil || got.Safe() || got.Conditional {
			t.Errorf("%s: %+v, %v, want an error", name, got, err)
			continue
		}
		if errors.Is(err, blob.ErrProbeRemains) != (c.want != nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if strings.Contains(err.Error(), "X-Amz-Signature") {
			t.Errorf("%s: the error repeats a presigned URL", name)
		}
	}
}

// forgetsObjects has no conditional writes: what is put was never there before.
func forgetsObjects(t *testing.T, server devstack.S3) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut && r.Header.Get("If-None-Match") != "" {
				key := strings.TrimPrefix(r.URL.Path, "/"+server.Bucket+"/")
				if _, err := client(server).DeleteObject(r.Context(), &s3.DeleteObjectInput{Bucket: &server.Bucket, Key: &key}); err != nil {
					t.Errorf("forget %s: %v", key, err)
				}
			}
			next.ServeHTTP(w, r)
		})
	}
}

// heading changes the answers to HEAD.
type heading struct {
	http.ResponseWriter
	change func(http.Header)
}

func (h heading) WriteHeader(status int) {
	h.change(h.Header())
	h.ResponseWriter.WriteHeader(status)
}

func onHead(change func(*http.Request, http.Header)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w = heading{w, func(h http.Header) { change(r, h) }}
			}
			next.ServeHTTP(w, r)
		})
	}
}

func tellsNoSHA256(next http.Handler) http.Handler {
	return onHead(func(_ *http.Request, h http.Header) { h.Del("X-Amz-Checksum-Sha256") })(next)
}

// tellsAnySHA256 keeps the digest that it is sent, and compares nothing. The
// content is not what the digest says, so the front takes it in the server's
// place and tells the digest of "the target".
func tellsAnySHA256(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/wrong") || r.Method == http.MethodDelete {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Length", "0")
		if r.Method == http.MethodHead {
			w.Header().Set("X-Amz-Checksum-Sha256", "w9f/Qm5YrfDEtFeVHEM11wrr2e1XDtMNg3dZlenCdLg=")
		}
		w.WriteHeader(http.StatusOK)
	})
}

// unpacks heeds the header by which MinIO unpacks an archive, with the header that
// names a folder only, if one is given.
func unpacks(t *testing.T, server devstack.S3, folder string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Amz-Meta-Snowball-Auto-Extract") != "true" || (r.Header.Get("X-Amz-Meta-Minio-Snowball-Prefix") != "") != (folder != "") {
				next.ServeHTTP(w, r)
				return
			}
			archive := tar.NewReader(r.Body)
			entry, err := archive.Next()
			if err != nil {
				t.Error(err)
				return
			}
			key := entry.Name
			if folder != "" {
				key = r.Header.Get(folder) + "/" + key
			}
			content, err := io.ReadAll(archive)
			if err != nil {
				t.Error(err)
			}
			if _, err := client(server).PutObject(r.Context(), &s3.PutObjectInput{Bucket: &server.Bucket, Key: aws.String(key), Body: strings.NewReader(string(content))}); err != nil {
				t.Error(err)
			}
			w.WriteHeader(http.StatusOK)
		})
	}
}

// ignoresCopies has no copies at all: the header means nothing to it.
func ignoresCopies(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("X-Amz-Copy-Source")
		next.ServeHTTP(w, r)
	})
}

func refuses(to func(*http.Request) bool, status int, code string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if to(r) {
				refusal(w, status, code)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

func hangsUp(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, r)
	})
}
