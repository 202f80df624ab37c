package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

func TestMain(m *testing.M) { devstack.Main(m) }

const testToken = "token-of-the-tests"

// backend is what a platform under test runs on.
type backend struct {
	config
	db     *sql.DB
	server *devstack.S3 // nil: inline
}

// eachBackend runs f with both constructors, on two object stores, and with small
// files in the row beside large ones in an object.
func eachBackend(t *testing.T, f func(t *testing.T, b backend), options ...pendinguploads.Option) {
	t.Helper()
	for _, c := range []struct {
		name    string
		server  func(testing.TB) devstack.S3
		options []pendinguploads.Option
	}{
		{name: "postgres"},
		{name: "s3 on MinIO", server: devstack.MinIO},
		{name: "s3 on VersityGW", server: devstack.VersityGW},
		{name: "mixed", server: devstack.MinIO, options: []pendinguploads.Option{pendinguploads.WithInlineMaxBytes(64 << 10)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := openBackend(t)
			if c.server != nil {
				b.useS3(c.server(t))
			}
			b.options = append(c.options, options...)
			f(t, b)
		})
	}
}

// openBackend makes an empty database, for content in the row.
func openBackend(t *testing.T) backend {
	t.Helper()
	url := devstack.EmptyDatabase(t)
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return backend{config: config{database: url, token: testToken, storage: "postgres"}, db: db}
}

func (b *backend) useS3(server devstack.S3) {
	b.server, b.storage = &server, "s3"
	b.s3 = s3blob.Config{
		Bucket: server.Bucket, Endpoint: server.Endpoint, Region: server.Region, PathStyle: server.PathStyle,
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, server.SessionToken),
	}
}

// run runs the program until the test or stop ends it, and returns its address.
func (b backend) run(t *testing.T) (base string, stop func()) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := run(ctx, b.config, listener, slog.New(slog.NewTextHandler(t.Output(), nil))); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return "http://" + listener.Addr().String(), stop
}

// store is what the program uses, to be asked directly.
func (b backend) store(t *testing.T, options ...pendinguploads.Option) *pendinguploads.Store {
	t.Helper()
	b.options = append(b.options[:len(b.options):len(b.options)], options...)
	uploads, err := openUploads(t.Context(), b.db, b.config)
	if err != nil {
		t.Fatal(err)
	}
	return uploads
}

func (b backend) count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	if err := b.db.QueryRowContext(t.Context(), `SELECT count(*) FROM `+query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// objects counts what is in the bucket.
func (b backend) objects(t *testing.T) int {
	t.Helper()
	if b.server == nil {
		return 0
	}
	list, err := b.server.Client().ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &b.server.Bucket})
	if err != nil {
		t.Fatal(err)
	}
	return len(list.Contents)
}

// waitFor waits until the condition holds.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-ticker.C:
		case <-t.Context().Done():
			t.Fatal("waited for " + what)
		}
	}
}

// client is a workspace, or somebody who uploads for it.
type client struct {
	t    *testing.T
	base string
	ws   uuid.UUID
}

// reply is a response, read to its end.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// fetch asks any address; without a token where that is "".
func fetch(t *testing.T, method, address, token, contentType string, body io.Reader) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, body)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, content}
}

// do asks for a path of the workspace.
func (c client) do(method, path string) reply {
	c.t.Helper()
	return fetch(c.t, method, c.base+"/workspaces/"+c.ws.String()+path, testToken, "", nil)
}

func (c client) content(fileID uuid.UUID, query string) reply {
	c.t.Helper()
	return c.do(http.MethodGet, "/pending-uploads/"+fileID.String()+"/content"+query)
}

func (c client) ack(fileID uuid.UUID) reply {
	c.t.Helper()
	return c.do(http.MethodPost, "/pending-uploads/"+fileID.String()+"/ack")
}

// file is a part of an upload.
type file struct {
	name, mimeType string
	content        []byte
}

// form is a body of such parts.
type form struct {
	contentType string
	body        *bytes.Buffer
}

func newForm(t *testing.T, files ...file) form {
	t.Helper()
	body := new(bytes.Buffer)
	parts := multipart.NewWriter(body)
	for _, f := range files {
		header := textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf(`form-data; name="files"; filename="%s"`, f.name)}}
		if f.mimeType != "" {
			header.Set("Content-Type", f.mimeType)
		}
		part, err := parts.CreatePart(header)
		if err == nil {
			_, err = part.Write(f.content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := parts.Close(); err != nil {
		t.Fatal(err)
	}
	return form{parts.FormDataContentType(), body}
}

func (c client) post(files ...file) reply {
	c.t.Helper()
	f := newForm(c.t, files...)
	return fetch(c.t, http.MethodPost, c.base+"/workspaces/"+c.ws.String()+"/chat/uploads", testToken, f.contentType, f.body)
}

// upload is a post that must succeed.
func (c client) upload(files ...file) []upload {
	c.t.Helper()
	var answer struct{ Files []upload }
	c.post(files...).decode(c.t, http.StatusOK, &answer)
	return answer.Files
}

// entry is what a poller reads of the feed.
type entry struct {
	ID           uuid.UUID `json:"id"`
	ActivityType string    `json:"activity_type"`
	Method       string    `json:"method"`
	Summary      string    `json:"summary"`
	Seq          int64     `json:"seq"`
	CreatedAt    time.Time `json:"created_at"`
	RequestBody  upload    `json:"request_body"`
}

func (c client) feed(query string) (entries []entry) {
	c.t.Helper()
	c.do(http.MethodGet, "/activity"+query).decode(c.t, http.StatusOK, &entries)
	return entries
}

func (r reply) decode(t *testing.T, status int, into any) {
	t.Helper()
	r.want(t, status)
	if err := json.Unmarshal(r.body, into); err != nil {
		t.Fatalf("%v in %.300q", err, r.body)
	}
}

// want checks the status, and that the body says what it should.
func (r reply) want(t *testing.T, status int, says ...string) {
	t.Helper()
	if r.status != status {
		t.Fatalf("status %d, want %d: %.300s", r.status, status, r.body)
	}
	for _, s := range says {
		if !strings.Contains(string(r.body), s) {
			t.Errorf("status %d: %.300s, want %s in it", r.status, r.body, s)
		}
	}
}
