package server_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/server"
	"github.com/molecule-ai/pendinguploads/metadata"
)

// parse reads flags as `serve` does.
func parse(t *testing.T, args ...string) (server.Config, error) {
	t.Helper()
	var cfg server.Config
	parser, err := kong.New(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(append([]string{"--database-url=postgres://localhost/x"}, args...))
	return cfg, err
}

const (
	oneKey   = "6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b"
	otherKey = "c3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3M="
)

func TestDeliverySettingsAreChecked(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		nil,
		{"--content-delivery=redirect", "--content-redirect-for=all", "--presign-ttl=1s", "--public-url=https://files.example.com"},
		{"--max-upload-time=168h", "--direct-ttl=168h", "--orphan-grace=200h"},
		{"--presign-ttl=168h", "--url-signing-keys=" + oneKey},
		{"--url-signing-keys=" + otherKey + "," + oneKey},
		{"--s3-sse=aws:kms", "--s3-sse-kms-key-id=k", "--s3-tags=a=b;c=d", "--s3-public-endpoint=https://s3.example.com"},
		{"--s3-sse=AES256"},
	} {
		cfg, err := parse(t, args...)
		if err == nil {
			err = cfg.Validate()
		}
		if err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	for _, tc := range []struct{ arg, want string }{
		{"--content-delivery=mail", "content-delivery"},
		{"--content-redirect-for=some", "content-redirect-for"},
		{"--content-redirect-for=all", "CONTENT_REDIRECT_FOR"},
		{"--content-delivery=redirect", "PUBLIC_URL"},
		{"--max-upload-time=168h1s", "MAX_UPLOAD_TIME is 168h0m1s, want 1s to 168h0m0s"},
		{"--max-upload-time=0s", "MAX_UPLOAD_TIME"},
		{"--direct-ttl=168h1s", "DIRECT_TTL is 168h0m1s, want 0 or 1s to 168h0m0s"},
		{"--direct-ttl=1ms", "DIRECT_TTL"},
		{"--presign-ttl=0s", "PRESIGN_TTL"},
		{"--presign-ttl=999ms", "PRESIGN_TTL"},
		{"--presign-ttl=168h1s", "PRESIGN_TTL"},
		{"--url-signing-keys=hunter2", "URL_SIGNING_KEYS"},
		{"--url-signing-keys=hunter2-hunter2-hunter2!", "URL_SIGNING_KEYS"},
		{"--url-signing-keys=" + oneKey + "," + oneKey, "URL_SIGNING_KEYS"},
		{"--url-signing-keys=" + oneKey + ",", "URL_SIGNING_KEYS"},
		{"--url-signing-keys=" + oneKey + "," + otherKey + ",aa" + oneKey, "URL_SIGNING_KEYS"},
		{"--s3-public-endpoint=s3.example.com", "S3_PUBLIC_ENDPOINT"},
		{"--s3-sse=rot13", "s3-sse"},
		{"--s3-sse-kms-key-id=k", "S3_SSE_KMS_KEY_ID"},
		{"--s3-checksum=never", "s3-checksum"},
	} {
		cfg, err := parse(t, tc.arg)
		if err == nil {
			err = cfg.Validate()
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line that names %s", tc.arg, err, tc.want)
			continue
		}
		for _, secret := range []string{"hunter2", oneKey, otherKey} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error repeats the key", tc.want)
			}
		}
	}
}

func TestDeliveryWarnings(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args []string
		want []string // words of a warning each
	}{
		{[]string{"--url-signing-keys=" + oneKey}, nil},
		{nil, []string{"URL_SIGNING_KEYS"}},
		{[]string{"--url-signing-keys=" + oneKey, "--content-delivery=redirect", "--public-url=https://x.example"}, []string{"writes a redirect's body to disk and acks it"}},
		{[]string{"--url-signing-keys=" + oneKey, "--s3-bucket=b", "--ack-retention=29m"}, []string{"ACK_RETENTION is shorter than MAX_UPLOAD_TIME"}},
		{[]string{"--url-signing-keys=" + oneKey, "--s3-bucket=b", "--ack-retention=30m"}, nil},
		{[]string{"--url-signing-keys=" + oneKey, "--s3-bucket=b", "--ack-retention=29m", "--direct-ttl=0"}, nil},
		{[]string{"--url-signing-keys=" + oneKey, "--ack-retention=29m"}, nil},
	} {
		cfg, err := parse(t, tc.args...)
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for _, w := range cfg.Warnings() {
			if strings.Contains(w, "URL_SIGNING_KEYS") || strings.Contains(w, "CONTENT_DELIVERY") || strings.Contains(w, "ACK_RETENTION") {
				found = append(found, w)
			}
		}
		if len(found) != len(tc.want) {
			t.Errorf("%v: %q, want %d warnings", tc.args, found, len(tc.want))
			continue
		}
		for i, want := range tc.want {
			if !strings.Contains(found[i], want) {
				t.Errorf("%v: %q lacks %q", tc.args, found[i], want)
			}
		}
	}
}

// lockedBuffer is a log to read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// The whole service with its settings: where a redirect leads, and what of all
// that is in the log.
func TestServeRedirectsToThePublicEndpoint(t *testing.T) {
	s3 := devstack.MinIO(t)
	t.Setenv("AWS_ACCESS_KEY_ID", s3.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s3.SecretKey)
	t.Setenv("AWS_SESSION_TOKEN", s3.SessionToken)
	database := devstack.Database(t)
	const admin = "admin-token-of-this-test"
	cfg, err := parse(t, "--database-url="+database, "--listen-addr=127.0.0.1:0", "--admin-token="+admin,
		"--s3-bucket="+s3.Bucket, "--s3-endpoint="+s3.Endpoint, "--s3-region="+s3.Region, "--s3-use-path-style="+strconv.FormatBool(s3.PathStyle),
		"--s3-public-endpoint=https://files.example.test", "--s3-tags=team=agents;kind=upload",
		"--content-delivery=redirect", "--public-url=https://uploads.example.test", "--presign-ttl=90s", "--url-signing-keys="+oneKey)
	if err != nil {
		t.Fatal(err)
	}
	var log lockedBuffer
	ctx, stop := context.WithCancel(t.Context())
	listening, ended := make(chan net.Addr, 1), make(chan error, 1)
	go func() {
		ended <- server.Run(ctx, cfg, server.Options{
			Ready:  func(a net.Addr) { listening <- a },
			Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		})
	}()
	var base string
	select {
	case a := <-listening:
		base = "http://" + a.String()
	case err := <-ended:
		t.Fatal(err)
	}

	db, err := metadata.Open(t.Context(), metadata.PoolConfig{URL: database})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ws, token, err := metadata.NewWorkspaces(metadata.WorkspacesConfig{DB: db}).Create(t.Context(),
		metadata.NewWorkspace{Name: "w", DeliveryMode: "poll", Status: "online"}, metadata.TokenInstance)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	call := func(method, path, contentType string, body io.Reader) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, base+"/workspaces/"+ws.ID.String()+path, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", contentType)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(text)
	}
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	part, err := w.CreateFormFile("files", "a.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = part.Write([]byte("hello"))
	_ = w.Close()
	_, uploaded := call("POST", "/chat/uploads", w.FormDataContentType(), &form)
	ids := regexp.MustCompile(`platform-pending:[0-9a-f-]{36}/([0-9a-f-]{36})`).FindStringSubmatch(uploaded)
	if ids == nil {
		t.Fatalf("upload: %s", uploaded)
	}
	content := "/pending-uploads/" + ids[1] + "/content"
	if resp, body := call("GET", content, "", nil); resp.StatusCode != 200 || body != "hello" {
		t.Errorf("without asking: %d %q", resp.StatusCode, body)
	}
	resp, body := call("GET", content+"?delivery=redirect", "", nil)
	location, err := resp.Location()
	if resp.StatusCode != http.StatusFound || body != "" || err != nil || location.Host != "files.example.test" || location.Scheme != "https" {
		t.Fatalf("redirect: %d %q to %v, %v", resp.StatusCode, body, location, err)
	}
	if ttl := location.Query().Get("X-Amz-Expires"); ttl != "90" {
		t.Errorf("it lives %s seconds, want 90", ttl)
	}
	_, reply := call("GET", content+"?delivery=url", "", nil)
	if !strings.Contains(reply, `"url":"https://files.example.test/`) {
		t.Errorf("url: %s", reply)
	}
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}

	text := log.String()
	if n := strings.Count(text, "CONTENT_DELIVERY is redirect"); n != 1 {
		t.Errorf("%d warnings of the redirect", n)
	}
	for _, secret := range []string{
		token, admin, oneKey, s3.SecretKey, "X-Amz-", location.Query().Get("X-Amz-Signature"), "Bearer",
	} {
		if strings.Contains(text, secret) {
			t.Errorf("%.8s… is in the log", secret)
		}
	}
}
