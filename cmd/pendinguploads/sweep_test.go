package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads/blob"
)

var modified = regexp.MustCompile(`<LastModified>[^<]*</LastModified>`)

// aged is the address of an object store to which everything was put in 2020.
func aged(t *testing.T, endpoint string) string {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		// The host stays as the client signed it.
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host },
		ModifyResponse: func(resp *http.Response) error {
			if !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/xml") {
				return nil
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				return err
			}
			body = modified.ReplaceAll(body, []byte("<LastModified>2020-01-01T00:00:00.000Z</LastModified>"))
			resp.Body = io.NopCloser(bytes.NewReader(body))
			resp.ContentLength = int64(len(body))
			resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
			return nil
		},
	})
	t.Cleanup(proxy.Close)
	return proxy.URL
}

// What a running server may still be uploading looks like an orphan to a command
// with other settings than the server's, so orphans go only when asked for.
func TestSweepTakesOrphansOnlyWhenAskedTo(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	store, _ := s.objects(t)
	orphan := "pending-uploads/" + s.workspace + "/" + uuid.NewString()
	if err := store.Put(t.Context(), orphan, strings.NewReader("x"), blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	old := s.s3
	old.Endpoint = aged(t, s.s3.Endpoint)
	env := append(s3Env(old), "DATABASE_URL="+s.database)
	if out := want0(t, env, "sweep", "--now"); out != "acked=0 expired=0 feed_entries=0\n" {
		t.Errorf("without --orphans: %q", out)
	}
	if n, _ := s.inBucket(t); n != 1 {
		t.Fatalf("%d objects after a sweep without --orphans, want 1", n)
	}
	if out := want0(t, env, "sweep", "--orphans"); out != "acked=0 expired=0 feed_entries=0 orphan_objects=1 unfinished_uploads=0\n" {
		t.Errorf("--orphans: %q", out)
	}
	if n, _ := s.inBucket(t); n != 0 {
		t.Errorf("%d objects after --orphans, want none", n)
	}
}

func TestSweepHelpSaysWhatOrphansRisk(t *testing.T) {
	t.Parallel()
	out := want0(t, nil, "sweep", "--help")
	for _, want := range []string{"--orphans", "MAX_UPLOAD_TIME", "running servers"} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("--help lacks %q:\n%s", want, out)
		}
	}
}
