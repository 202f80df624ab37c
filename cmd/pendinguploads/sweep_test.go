package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
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
	"github.com/jackc/pgx/v5"

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

func TestSweepPrintsItsCounts(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, s.env)
	var uris []string
	for i := range 3 {
		u := s.beginUpload(t, p)
		if _, err := fmt.Fprintf(u.part, "content %d", i); err != nil {
			t.Fatal(err)
		}
		if status := u.finish(t); status != http.StatusOK {
			t.Fatalf("upload: %d %s", status, u.reply)
		}
		var reply struct{ Files []struct{ URI string } }
		if err := json.Unmarshal(u.reply, &reply); err != nil {
			t.Fatal(err)
		}
		uris = append(uris, reply.Files[0].URI)
	}
	ack := "/workspaces/" + s.workspace + "/pending-uploads/" + uris[0][strings.LastIndex(uris[0], "/")+1:] + "/ack"
	if status, body, err := s.do(t, p, http.MethodPost, ack, "", nil); status != http.StatusOK {
		t.Fatalf("ack: %d %s %v", status, body, err)
	}
	if out := want0(t, s.env, "sweep"); out != "acked=0 expired=0 feed_entries=0\n" {
		t.Errorf("within the retention: %q", out)
	}
	if out := want0(t, s.env, "sweep", "--now"); out != "acked=1 expired=0 feed_entries=0\n" {
		t.Errorf("--now: %q", out)
	}
	if n, _ := s.inBucket(t); n != 2 {
		t.Errorf("%d objects, want 2", n)
	}
	p.stop(t)
}

func TestSweepThatCannotReachTheObjectsKeepsTheRows(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	p := serve(t, s.env)
	u := s.beginUpload(t, p)
	if _, err := io.WriteString(u.part, "content"); err != nil {
		t.Fatal(err)
	}
	if status := u.finish(t); status != http.StatusOK {
		t.Fatalf("upload: %d %s", status, u.reply)
	}
	p.stop(t)
	conn, err := pgx.Connect(t.Context(), s.database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if _, err := conn.Exec(t.Context(), "UPDATE pending_uploads SET expires_at = now() - interval '1 hour'"); err != nil {
		t.Fatal(err)
	}
	absent, forged := s.s3, s.s3
	absent.Bucket += "-absent"
	forged.SecretKey = "not-the-secret-of-this-key"
	for want, env := range map[string][]string{
		"no object store is configured": nil,
		"bucket not found":              s3Env(absent),
		"403":                           s3Env(forged),
	} {
		_, stderr, code := result(t, append(env, "DATABASE_URL="+s.database), "sweep")
		if code != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, want) || strings.Contains(stderr, forged.SecretKey) {
			t.Errorf("exit code %d, want one line with %q:\n%s", code, want, stderr)
		}
		if rows := s.rows(t, "pending_uploads"); rows != 1 {
			t.Fatalf("%d rows after a sweep that failed, want 1", rows)
		}
	}
	if out := want0(t, s.env, "sweep"); !strings.HasPrefix(out, "acked=0 expired=1 ") {
		t.Errorf("the same with the right store: %q", out)
	}
	if n, _ := s.inBucket(t); n != 0 || s.rows(t, "pending_uploads") != 0 {
		t.Errorf("%d objects and %d rows are left", n, s.rows(t, "pending_uploads"))
	}
}

// A script that reads the counts is not to take a failure for a clean run.
func TestSweepThatCanDoNothingPrintsNoCounts(t *testing.T) {
	t.Parallel()
	stdout, stderr, code := result(t, []string{"DATABASE_URL=postgres://127.0.0.1:1/none", "S3_BUCKET="}, "sweep")
	if code == 0 || stdout != "" || stderr == "" {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
}
