package doctor_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/doctor"
	"github.com/molecule-ai/pendinguploads/internal/server"
)

func TestMain(m *testing.M) {
	devstack.Main(m, func() error {
		return goleak.Find(
			// Idle connections outlive their client by design.
			goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
			goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		)
	})
}

const prefix = "staged"

// world is a database and a bucket in which doctor finds nothing wrong.
type world struct {
	database string
	s3       devstack.S3
	settings server.Config
	keys     aws.CredentialsProvider
	timeout  time.Duration
}

// newWorld makes one, with the rule that MinIO does not come with, and without
// direct uploads, which want another identity than its root user.
func newWorld(t *testing.T, flags ...string) *world {
	t.Helper()
	w := newWorldOn(t, devstack.MinIO(t), append([]string{"--direct-ttl=0"}, flags...)...)
	w.expire(t, prefix+"/", 2)
	return w
}

func newWorldOn(t *testing.T, store devstack.S3, flags ...string) *world {
	t.Helper()
	w := &world{database: devstack.Database(t), s3: store}
	w.keys = credentials.NewStaticCredentialsProvider(w.s3.AccessKey, w.s3.SecretKey, w.s3.SessionToken)
	w.settings = settings(t, append([]string{
		"--database-url=" + w.database,
		"--s3-bucket=" + w.s3.Bucket, "--s3-endpoint=" + w.s3.Endpoint, "--s3-region=" + w.s3.Region, "--s3-use-path-style",
		"--s3-prefix=" + prefix, "--url-signing-keys=" + strings.Repeat("5a", 32),
	}, flags...)...)
	return w
}

// settings are those of serve.
func settings(t *testing.T, flags ...string) server.Config {
	t.Helper()
	var parts struct {
		server.Objects  `embed:""`
		server.Uploads  `embed:""`
		server.Delivery `embed:""`
		server.Access   `embed:""`
		server.HTTP     `embed:""`
		server.Cleanup  `embed:""`
		server.Feed     `embed:""`
		URL             string `name:"database-url"`
		MaxConns        int32  `name:"database-max-conns" default:"16"`
	}
	parser, err := kong.New(&parts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(flags); err != nil {
		t.Fatal(err)
	}
	return server.Config{
		Database: server.Database{DatabaseURL: parts.URL, DatabaseMaxConns: parts.MaxConns},
		Objects:  parts.Objects, Uploads: parts.Uploads, Delivery: parts.Delivery, Access: parts.Access,
		HTTP: parts.HTTP, Cleanup: parts.Cleanup, Feed: parts.Feed,
	}
}

func (w *world) expire(t *testing.T, below string, days int32) {
	t.Helper()
	if _, err := w.s3.Client().PutBucketLifecycleConfiguration(t.Context(), &s3.PutBucketLifecycleConfigurationInput{
		Bucket: &w.s3.Bucket,
		LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{{
			ID: aws.String("theirs"), Status: types.ExpirationStatusEnabled, Filter: &types.LifecycleRuleFilter{Prefix: &below},
			Expiration: &types.LifecycleExpiration{Days: &days},
		}}},
	}); err != nil {
		t.Fatal(err)
	}
}

// behind puts a front before the store. Handlers wrapped around it may answer in
// the store's place.
func (w *world) behind(t *testing.T, wrap func(store http.Handler) http.Handler) {
	t.Helper()
	w.settings.S3Endpoint = front(t, w.s3, wrap).URL
}

// front keeps the Host that it is called by, which is part of every signature.
func front(t *testing.T, store devstack.S3, wrap func(store http.Handler) http.Handler) *httptest.Server {
	t.Helper()
	f := httptest.NewServer(wrap(proxy(t, store)))
	t.Cleanup(f.Close)
	return f
}

func proxy(t *testing.T, store devstack.S3) http.Handler {
	t.Helper()
	target, err := url.Parse(store.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	return &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
	}}
}

// denying refuses what the predicate picks, as a store does that knows who asks
// and does not let him.
func denying(pick func(r *http.Request) bool) func(http.Handler) http.Handler {
	return func(store http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if pick(r) {
				refusal(w, http.StatusForbidden, "AccessDenied")
				return
			}
			store.ServeHTTP(w, r)
		})
	}
}

// refusal answers in the words of S3.
func refusal(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(`<?xml version="1.0" encoding="UTF-8"?><Error><Code>` + code + `</Code><Message>on purpose</Message></Error>`))
}

// isObject tells requests for an object from those for the bucket.
func (w *world) isObject(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/"+w.s3.Bucket+"/"+prefix)
}

// plain tells a request for an object itself from those for its uploads.
func (w *world) plain(r *http.Request) bool {
	q := r.URL.Query()
	return w.isObject(r) && !q.Has("uploads") && !q.Has("uploadId")
}

// names are all checks in their order, as scripts know them.
var names = []string{
	"settings", "database", "database version", "database rights", "schema", "database clock", "database connections", "notifications",
	"corrupt files", "s3 tls", "bucket", "s3 clock", "versioning", "put", "get", "head", "list", "list unfinished", "delete", "delete many",
	"multipart create", "multipart part", "multipart complete", "multipart abort", "checksum", "conditional writes", "presign",
	"public tls", "public presign", "direct uploads", "lifecycle unfinished", "lifecycle objects", "cors", "public access", "probes",
}

// run examines the world.
func (w *world) run(t *testing.T) []doctor.Result {
	t.Helper()
	d := doctor.New(doctor.Config{Settings: w.settings, Credentials: w.keys, Timeout: w.timeout})
	defer d.Close()
	var reported []doctor.Result
	results := d.Run(t.Context(), func(r doctor.Result) { reported = append(reported, r) })
	if diff := cmp.Diff(results, reported); diff != "" {
		t.Errorf("what was reported differs from what was returned (-returned +reported):\n%s", diff)
	}
	for _, r := range results {
		if strings.Contains(r.String(), "\n") || strings.Contains(r.String(), "Signature=") || strings.Contains(r.String(), w.s3.SecretKey) {
			t.Errorf("a line break or a secret in %q", r)
		}
		if r.Finding == "" || (r.Status == doctor.Warning || r.Status == doctor.Failure) && r.Fix == "" {
			t.Errorf("nothing to go by in %q", r)
		}
	}
	return results
}

// others are the outcomes that differ from ok.
type others map[string]doctor.Status

// skipped adds checks that are skipped.
func (o others) skipped(names ...string) others {
	for _, n := range names {
		o[n] = doctor.Skipped
	}
	return o
}

// found wants exactly these outcomes, and returns the results by name.
func found(t *testing.T, results []doctor.Result, want others) map[string]doctor.Result {
	t.Helper()
	type outcome struct {
		Name   string
		Status doctor.Status
	}
	var got, wanted []outcome
	byName := map[string]doctor.Result{}
	for _, r := range results {
		got = append(got, outcome{r.Name, r.Status})
		byName[r.Name] = r
	}
	for _, n := range names {
		status, ok := want[n]
		if !ok {
			status = doctor.OK
		}
		wanted = append(wanted, outcome{n, status})
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		var lines strings.Builder
		for _, r := range results {
			lines.WriteString(r.String() + "\n")
		}
		t.Errorf("outcomes (-want +got):\n%s\n%s", diff, lines.String())
	}
	return byName
}

// says wants words in a result's line.
func says(t *testing.T, r doctor.Result, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(r.String(), word) {
			t.Errorf("no %q in %q", word, r)
		}
	}
}

// empty wants nothing left in the bucket.
func (w *world) empty(t *testing.T) {
	t.Helper()
	objects, err := w.s3.Client().ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &w.s3.Bucket})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects.Contents {
		t.Errorf("object %s is left", aws.ToString(o.Key))
	}
	uploads, err := w.s3.Client().ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &w.s3.Bucket})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range uploads.Uploads {
		t.Errorf("upload of %s is left", aws.ToString(u.Key))
	}
}

// exec runs a statement in the world's database.
func (w *world) exec(t *testing.T, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, s := range statements {
		if _, err := conn.Exec(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func TestNothingIsWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	found(t, w.run(t), nil)
	w.empty(t)
}
