package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// signers remembers the access keys that requests to an object store are signed
// with, in the order of their first use.
type signers struct {
	mu   sync.Mutex
	keys []string
}

var signerKey = regexp.MustCompile(`Credential=([^/]+)/`)

// front is an address of the object store that notes who calls.
func (s *signers) front(t *testing.T, endpoint string) string {
	t.Helper()
	return inFrontOf(t, endpoint, func(w http.ResponseWriter, r *http.Request, store http.Handler) {
		if m := signerKey.FindStringSubmatch(r.Header.Get("Authorization")); m != nil {
			s.mu.Lock()
			if n := len(s.keys); n == 0 || s.keys[n-1] != m[1] {
				s.keys = append(s.keys, m[1])
			}
			s.mu.Unlock()
		}
		store.ServeHTTP(w, r)
	})
}

// TestServeTakesRotatedCredentials replaces the credentials file of a running
// service in the middle of an upload: the upload ends well, what follows is signed
// by the new identity, files of before are there, and URLs are the new identity's.
func TestServeTakesRotatedCredentials(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	var identities [2]devstack.S3
	for i := range identities {
		var err error
		if identities[i], err = s.s3.Session(t.Context(), devstack.DirectPolicy(s.s3.Bucket)); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "credentials")
	rotate := func(to devstack.S3) {
		t.Helper()
		text := fmt.Sprintf("[uploads]\naws_access_key_id = %s\naws_secret_access_key = %s\naws_session_token = %s\n", to.AccessKey, to.SecretKey, to.SessionToken)
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	rotate(identities[0])
	var seen signers
	p := serve(t, append(s.env, "S3_ENDPOINT="+seen.front(t, s.s3.Endpoint), "AWS_PROFILE=uploads", "AWS_SHARED_CREDENTIALS_FILE="+file,
		"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_SESSION_TOKEN="))

	big := bytes.Repeat([]byte("0123456789abcdef"), 20<<16) // 20 MiB: several parts
	u := s.beginUpload(t, p)
	if _, err := u.part.Write(big[:12<<20]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a multipart upload is under way", func() bool { _, n := s.inBucket(t); return n == 1 })
	rotate(identities[1])
	if _, err := u.part.Write(big[12<<20:]); err != nil {
		t.Fatal(err)
	}
	if status := u.finish(t); status != http.StatusOK {
		t.Fatalf("the upload was answered %d: %s\n%s", status, u.reply, p.text())
	}
	var reply wire.UploadReply
	if err := json.Unmarshal(u.reply, &reply); err != nil || len(reply.Files) != 1 {
		t.Fatalf("%s, %v", u.reply, err)
	}
	_, id, _ := strings.Cut(reply.Files[0].URI, "/")
	content := "/workspaces/" + s.workspace + "/pending-uploads/" + id + "/content"
	if _, got, err := s.do(t, p, http.MethodGet, content, "", nil); err != nil || !bytes.Equal(got, big) {
		t.Errorf("%d bytes come back, %v; want %d", len(got), err, len(big))
	}
	_, signed, err := s.do(t, p, http.MethodGet, content+"?delivery=url", "", nil)
	if err != nil || !strings.Contains(string(signed), "X-Amz-Credential="+identities[1].AccessKey) {
		t.Errorf("the URL is not the new identity's: %v", err)
	}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	if len(seen.keys) != 2 || seen.keys[0] != identities[0].AccessKey || seen.keys[1] != identities[1].AccessKey {
		t.Errorf("requests were signed by %v, want by %s and then %s", seen.keys, identities[0].AccessKey, identities[1].AccessKey)
	}
	p.stop(t)
}
