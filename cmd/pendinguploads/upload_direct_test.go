package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

func TestUploadDirectSendsToTheObjectStoreOrSaysWhyNot(t *testing.T) {
	t.Parallel()
	s := newStackOn(t, devstack.MinIOUser(t))
	dir := t.TempDir()
	a, b := file(t, dir, "a.txt", "first"), file(t, dir, "b.txt", strings.Repeat("x", 2<<20))
	long := strings.Repeat("y", streamHead+1)
	dead := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(dead.Close)
	slow := slowStore(t, s.s3.Endpoint)
	const through = "sending through the service: "
	var want []string
	for name, c := range map[string]struct {
		env    string
		direct bool
		why    string
	}{
		"possible":        {"S3_PUBLIC_ENDPOINT=" + s.s3.Endpoint, true, ""},
		"not reachable":   {"S3_PUBLIC_ENDPOINT=http://127.0.0.1:1", false, "the object store cannot be reached"},
		"dead":            {"S3_PUBLIC_ENDPOINT=" + dead.URL, false, "the object store answers with status 503"},
		"too slow":        {"S3_PUBLIC_ENDPOINT=" + slow + ",DIRECT_TTL=2s", false, "commit_token has expired"},
		"not offered":     {"DIRECT_TTL=0", false, "direct upload is not available here"},
		"no object store": {"S3_BUCKET=", false, "direct upload is not available here"},
	} {
		t.Run(name, func(t *testing.T) {
			p := serve(t, append(s.env, strings.Split(c.env, ",")...))
			env := s.user(t, p)
			stdout, stderr, code := piped(t, env, long, "upload", "--direct", "--patience=500ms", a, "-", b)
			if code != 0 || len(lines(stdout)) != 3 {
				t.Fatalf("exit code %d:\n%s%s", code, stdout, stderr)
			}
			if direct := strings.Contains(p.text(), "direct=true"); direct != c.direct {
				t.Errorf("sent to the object store: %t, want %t\n%s", direct, c.direct, p.text())
			}
			if n := strings.Count(stderr, through); (n == 1) == c.direct || n > 1 || !strings.Contains(stderr, c.why) {
				t.Errorf("said:\n%s", stderr)
			}
			if c.direct && !strings.Contains(stderr, "- goes through the service: it can be read only once") {
				t.Errorf("said nothing of the stream:\n%s", stderr)
			}
			p.stop(t)
			for _, secret := range []string{"X-Amz-", s.token} {
				if strings.Contains(stderr+p.text(), secret) {
					t.Errorf("%q is in the output or the log", secret)
				}
			}
			want = append(want, "a.txt text/plain 5", "stdin text/plain 65537", "b.txt text/plain 2097152")
		})
	}
	p := serve(t, s.env)
	if diff := cmp.Diff(want, manifests(t, feed(t, s.user(t, p)))); diff != "" {
		t.Errorf("the feed: %s", diff)
	}
	p.stop(t)
}

// slowStore is an object store that answers when the reservation has ended.
func slowStore(t *testing.T, endpoint string) string {
	t.Helper()
	return inFrontOf(t, endpoint, func(w http.ResponseWriter, r *http.Request, store http.Handler) {
		answer := httptest.NewRecorder()
		store.ServeHTTP(answer, r)
		query := r.URL.Query()
		signed, err := time.Parse("20060102T150405Z", query.Get("X-Amz-Date"))
		life, lifeErr := time.ParseDuration(query.Get("X-Amz-Expires") + "s")
		if err != nil || lifeErr != nil {
			t.Errorf("%v, %v", err, lifeErr)
			return
		}
		<-time.After(time.Until(signed.Add(life + time.Second)))
		w.WriteHeader(answer.Code)
	})
}

// The answer to the commit is lost for good. An invocation's key is no help then,
// as a direct upload sends none.
func TestUploadDirectThatMayBeDoneAdvisesNoKey(t *testing.T) {
	t.Parallel()
	s := newStackOn(t, devstack.MinIOUser(t))
	p := serve(t, s.env)
	env := append(s.user(t, p), "PENDINGUPLOADS_SERVER="+through(t, p, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/direct/commit") {
			loseAnswer(r, server)
		}
		server.ServeHTTP(w, r)
	}))
	a := file(t, t.TempDir(), "a.txt", "first")
	for i, args := range [][]string{{"--patience=-1s"}, {"--patience=-1s", "--idempotency-key=k"}} {
		stdout, stderr, code := result(t, env, append([]string{"upload", "--direct", a}, args...)...)
		if code != exitFailure || !strings.Contains(stderr, "may have been staged") || strings.Contains(stderr, "idempotency-key") {
			t.Errorf("%v: exit code %d:\n%s%s", args, code, stdout, stderr)
		}
		if n := s.rows(t, "pending_uploads"); n != i+1 {
			t.Errorf("%v: %d files are staged", args, n)
		}
	}
	p.stop(t)
}
