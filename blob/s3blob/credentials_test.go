package s3blob_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// servers are both. The tests of this file set the environment, so they are not
// parallel.
var servers = map[string]func(testing.TB) devstack.S3{"minio": devstack.MinIO, "versitygw": devstack.VersityGW}

// chained returns a configuration that leaves credentials to the SDK's chain, in
// an environment without any.
func chained(t *testing.T, server devstack.S3) s3blob.Config {
	t.Helper()
	absent := filepath.Join(t.TempDir(), "absent")
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_SHARED_CREDENTIALS_FILE": absent, "AWS_CONFIG_FILE": absent, "AWS_WEB_IDENTITY_TOKEN_FILE": "", "AWS_ROLE_ARN": "",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI": "", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_S3": "",
	} {
		t.Setenv(name, value)
	}
	cfg := config(t, server)
	cfg.Credentials = nil
	cfg.MaxRetries = -1
	return cfg
}

// works fails the test unless the store can be used, also by presigned requests.
func works(t *testing.T, store *s3blob.Store) {
	t.Helper()
	put(t, store, "a", 10)
	if status := fetch(t, presignedGet(t, store, "a").URL); status != http.StatusOK {
		t.Errorf("a presigned get answered %d", status)
	}
	if err := store.Delete(t.Context(), "a"); err != nil {
		t.Error(err)
	}
}

// profile is a section of a shared credentials file.
func profile(name, key, secret string) string {
	return fmt.Sprintf("[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n", name, key, secret)
}

// replace writes a file the way that readers never see half of it.
func replace(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

func TestCredentialsFromTheEnvironment(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			server := start(t)
			cfg := chained(t, server)
			if err := open(t, cfg).Ready(t.Context()); err == nil {
				t.Error("without credentials the store is ready")
			}
			t.Setenv("AWS_ACCESS_KEY_ID", server.AccessKey)
			t.Setenv("AWS_SECRET_ACCESS_KEY", server.SecretKey)
			works(t, open(t, cfg))
		})
	}
}

func TestCredentialsFromASharedProfile(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			server := start(t)
			cfg := chained(t, server)
			file := filepath.Join(t.TempDir(), "credentials")
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
			t.Setenv("AWS_PROFILE", "uploads")
			replace(t, file, profile("default", "somebody", "else")+profile("uploads", server.AccessKey, server.SecretKey))
			works(t, open(t, cfg))
		})
	}
}

// TestSharedProfileIsReadAgainWhenItChanges runs one store through a rotation and
// through what can go wrong in one.
func TestSharedProfileIsReadAgainWhenItChanges(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			server := start(t)
			cfg := chained(t, server)
			file := filepath.Join(t.TempDir(), "credentials")
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
			t.Setenv("AWS_PROFILE", "uploads")
			replace(t, file, profile("uploads", server.AccessKey, "a-secret-of-yesterday"))
			store := open(t, cfg)
			if err := store.Ready(t.Context()); err == nil || errors.Is(err, blob.ErrBucketNotFound) {
				t.Fatalf("Ready = %v, want a refusal", err)
			}
			right := profile("uploads", server.AccessKey, server.SecretKey)
			replace(t, file, right)
			works(t, store)

			for what, broken := range map[string]string{
				"empty": "", "without the profile": profile("default", "x", "y"), "cut off": "[uploads]\naws_access_key_id = " + server.AccessKey + "\n",
			} {
				replace(t, file, broken)
				if err := store.Ready(t.Context()); err != nil {
					t.Errorf("a file that is %s takes what was there before: %v", what, err)
				}
			}
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			works(t, store)
			replace(t, file, profile("uploads", server.AccessKey, "another-wrong-secret"))
			if err := store.Ready(t.Context()); err == nil {
				t.Error("what the file says now is not used")
			}
			replace(t, file, right)
			works(t, store)
		})
	}
}

// tokens is a security token service that gives its credentials for any token of
// a web identity, and remembers those.
type tokens struct {
	keys, secret string
	life         time.Duration

	mu   sync.Mutex
	seen []string
}

func (s *tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("Action") != "AssumeRoleWithWebIdentity" || r.FormValue("RoleArn") == "" {
		http.Error(w, "on purpose", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, r.FormValue("WebIdentityToken"))
	w.Header().Set("Content-Type", "text/xml")
	_, _ = fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>`+
		`<AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken></SessionToken><Expiration>%s</Expiration>`+
		`</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`,
		s.keys, s.secret, time.Now().Add(s.life).UTC().Format(time.RFC3339))
}

// asked returns the tokens seen so far, each run of the same one as one.
func (s *tokens) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var runs []string
	for _, token := range s.seen {
		if len(runs) == 0 || runs[len(runs)-1] != token {
			runs = append(runs, token)
		}
	}
	return runs
}

// TestCredentialsFromAWebIdentity begins with credentials that have run out when
// they arrive, so that each request asks for others with the token of that moment.
func TestCredentialsFromAWebIdentity(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			server := start(t)
			cfg := chained(t, server)
			service := &tokens{keys: server.AccessKey, secret: server.SecretKey, life: -time.Minute}
			front := httptest.NewServer(service)
			defer front.Close()
			file := filepath.Join(t.TempDir(), "token")
			t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file)
			t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/uploads")
			t.Setenv("AWS_ENDPOINT_URL_STS", front.URL)
			replace(t, file, "first")
			store := open(t, cfg)
			if err := store.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			replace(t, file, "second")
			if err := store.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			service.mu.Lock()
			service.life = time.Hour
			service.mu.Unlock()
			replace(t, file, "third")
			works(t, store)
			replace(t, file, "fourth")
			works(t, store)
			if diff := cmp.Diff([]string{"first", "second", "third"}, service.asked()); diff != "" {
				t.Errorf("tokens shown (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRequestsGoOnWhileChangedFilesAreRead holds the reading up in the security
// token service that the new file leads to.
func TestRequestsGoOnWhileChangedFilesAreRead(t *testing.T) {
	server := devstack.MinIO(t)
	cfg := chained(t, server)
	service := &tokens{keys: server.AccessKey, secret: server.SecretKey, life: time.Hour}
	entered, release := make(chan struct{}), make(chan struct{})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-release
		service.ServeHTTP(w, r)
	}))
	defer front.Close()
	dir := t.TempDir()
	file, token := filepath.Join(dir, "config"), filepath.Join(dir, "token")
	t.Setenv("AWS_CONFIG_FILE", file)
	t.Setenv("AWS_PROFILE", "uploads")
	t.Setenv("AWS_ENDPOINT_URL_STS", front.URL)
	replace(t, token, "token")
	replace(t, file, profile("profile uploads", server.AccessKey, server.SecretKey))
	store := open(t, cfg)
	works(t, store)

	replace(t, file, "[profile uploads]\nrole_arn = arn:aws:iam::1:role/uploads\nweb_identity_token_file = "+token+"\n")
	done := make(chan error, 1)
	go func() { done <- store.Ready(t.Context()) }()
	<-entered
	works(t, store) // with what was there before
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	works(t, store)
	if diff := cmp.Diff([]string{"token"}, service.asked()); diff != "" {
		t.Errorf("tokens shown (-want +got):\n%s", diff)
	}
}
