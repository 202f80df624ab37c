package handlers_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

// adminToken is the administrator of every test server.
const adminToken = "admin-token-of-the-test"

// world is a running server over a database and a bucket of its own.
type world struct {
	t          *testing.T
	database   string // URL
	url        string // http://127.0.0.1:PORT
	addr       string // 127.0.0.1:PORT
	server     *handlers.Server
	http       *http.Server
	log        *logBuffer
	pool       *pgxpool.Pool
	objects    *s3blob.Store
	store      *staging.Store
	workspaces *metadata.Workspaces
	tokens     *metadata.Tokens
	activity   *metadata.Activity
	uploads    *metadata.Uploads
	client     *http.Client
}

// newServer starts a server on PostgreSQL and MinIO; options change its
// configuration, for instance wrap its Storage. The rate limit is off unless an
// option sets it.
func newServer(t *testing.T, options ...func(*handlers.Config)) *world {
	t.Helper()
	return newServerWith(t, setup{}, options...)
}

// setup configures what lies below the handlers.
type setup struct {
	rows    metadata.UploadsConfig // such as ReadAfterAck; DB and Announcer are filled in
	limits  storage.Limits         // of store and handlers alike
	objects func(*s3blob.Config)   // changes how the bucket is reached
	feed    feedSetup
}

// feedSetup configures how the feed is read and watched.
type feedSetup struct {
	database string                        // URL, of another server's; default one of its own
	wrap     func(metadata.DB) metadata.DB // what the feed is read and written through
	watch    metadata.FeedWatchConfig      // DB and Logger are filled in
	notify   func(dial dialFunc) dialFunc  // FEED_NOTIFY=on, listening through what it returns; nil: off
}

// dialFunc makes a connection to listen on.
type dialFunc func(ctx context.Context) (*pgx.Conn, error)

func newServerWith(t *testing.T, below setup, options ...func(*handlers.Config)) *world {
	t.Helper()
	ctx := t.Context()
	if below.feed.database == "" {
		below.feed.database = devstack.Database(t)
	}
	pool, err := metadata.Open(ctx, metadata.PoolConfig{URL: below.feed.database, MaxConns: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	bucket := devstack.MinIOUser(t)
	parts, err := blob.NewPool(blob.PoolConfig{BudgetBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	inBucket := s3blob.Config{
		Bucket: bucket.Bucket, Region: bucket.Region, Endpoint: bucket.Endpoint, PathStyle: bucket.PathStyle,
		Credentials: credentials.NewStaticCredentialsProvider(bucket.AccessKey, bucket.SecretKey, bucket.SessionToken),
		Pool:        parts,
	}
	if below.objects != nil {
		below.objects(&inBucket)
	}
	objects, err := s3blob.Open(ctx, inBucket)
	if err != nil {
		t.Fatal(err)
	}

	w := &world{t: t, database: below.feed.database, pool: pool, objects: objects, log: &logBuffer{}}
	log := slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	hub := handlers.NewHub()
	w.workspaces = metadata.NewWorkspaces(metadata.WorkspacesConfig{DB: pool})
	w.tokens = metadata.NewTokens(pool)
	below.feed.watch.DB, below.feed.watch.Logger = pool, log
	if below.feed.notify != nil {
		below.feed.watch.Listen = below.feed.notify(metadata.DialLike(pool))
	}
	watch := metadata.NewFeedWatch(below.feed.watch)
	var feedDB metadata.DB = pool
	if below.feed.wrap != nil {
		feedDB = below.feed.wrap(pool)
	}
	w.activity = metadata.NewActivity(metadata.ActivityConfig{
		DB: feedDB, Publisher: metadata.Publishers{watch, hub}, Notify: below.feed.notify != nil,
	})
	below.rows.DB, below.rows.Announcer = pool, w.activity
	w.uploads = metadata.NewUploads(below.rows)
	store, err := staging.New(staging.Config{
		Rows: w.uploads, Objects: objects, KeyPrefix: "t", Limits: below.limits,
		ReadPatience: time.Second, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.store = store
	cfg := handlers.Config{
		Storage: store, Uploads: w.uploads, Corrupt: w.uploads,
		Workspaces: w.workspaces, Tokens: w.tokens, Activity: w.activity, Watch: watch, Hub: hub,
		AdminToken: adminToken, RegisterFailOpen: true, RateLimit: -1,
		Limits: below.limits, ReadAfterAck: below.rows.ReadAfterAck,
		Logger: log,
	}
	for _, o := range options {
		o(&cfg)
	}
	if w.server, err = handlers.New(cfg); err != nil {
		t.Fatal(err)
	}
	watchCtx, stopWatch := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watch.Run(watchCtx)
	}()
	t.Cleanup(func() {
		stopWatch()
		<-watched
	})
	w.serve()
	return w
}

func (w *world) serve() {
	w.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	srv := w.server.HTTPServer("")
	w.http = srv
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(ln)
	}()
	transport := &http.Transport{}
	w.client = &http.Client{
		Transport: transport,
		// A redirect is what the tests want to see, not to follow.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       time.Minute,
	}
	w.t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = srv.Shutdown(ctx)
		_ = srv.Close()
		<-served
	})
	w.addr = ln.Addr().String()
	w.url = "http://" + w.addr
}

// reply is a response, read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

// json decodes the body.
func (r reply) json(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.body), v); err != nil {
		t.Fatalf("reply %d %q is not the JSON that was expected: %v", r.status, r.body, err)
	}
}

// errorText is the body's error key.
func (r reply) errorText(t *testing.T) string {
	t.Helper()
	var e struct {
		Error string `json:"error"`
	}
	r.json(t, &e)
	return e.Error
}

// want fails unless the reply is the given error.
func (r reply) want(t *testing.T, status int, text string) {
	t.Helper()
	if r.status != status || r.errorText(t) != text {
		t.Errorf("got %d %s, want %d %q", r.status, r.body, status, text)
	}
	if ct := r.header.Get("Content-Type"); ct != "application/json; charset=utf-8" {
		t.Errorf("Content-Type of the error is %q", ct)
	}
}

// do sends a request; token may be empty; headers are pairs.
func (w *world) do(method, path, token string, body io.Reader, headers ...string) reply {
	w.t.Helper()
	got, err := w.try(method, path, token, body, headers...)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return got
}

// try is do for requests that may fail.
func (w *world) try(method, path, token string, body io.Reader, headers ...string) (reply, error) {
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, body)
	if err != nil {
		return reply{}, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") == "text/event-stream" {
		return reply{resp.StatusCode, resp.Header, ""}, nil // it has no end
	}
	b, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(b)}, err
}

// postJSON posts text or, for anything else, its JSON.
func (w *world) postJSON(path, token string, body any, headers ...string) reply {
	w.t.Helper()
	text, ok := body.(string)
	if !ok {
		b, err := json.Marshal(body)
		if err != nil {
			w.t.Fatal(err)
		}
		text = string(b)
	}
	return w.do("POST", path, token, strings.NewReader(text), append([]string{"Content-Type", "application/json"}, headers...)...)
}

// workspace creates a workspace with a live instance token. mode is poll, push
// or empty for NULL.
func (w *world) workspace(mode string) (storage.WorkspaceID, string) {
	w.t.Helper()
	ws, token, err := w.workspaces.Create(w.t.Context(), metadata.NewWorkspace{
		ID: newWorkspaceID(w.t), DeliveryMode: mode, Status: "online",
	}, metadata.TokenInstance)
	if err != nil {
		w.t.Fatal(err)
	}
	if mode == "" {
		w.exec(`ALTER TABLE workspaces ALTER COLUMN delivery_mode DROP NOT NULL`)
		w.exec(`UPDATE workspaces SET delivery_mode = NULL WHERE id = $1`, ws.ID.String())
	}
	return ws.ID, token
}

func newWorkspaceID(t *testing.T) storage.WorkspaceID {
	t.Helper()
	id, err := storage.NewFileID()
	if err != nil {
		t.Fatal(err)
	}
	return storage.WorkspaceID(id)
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.pool.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

// count runs a query that yields one number.
func (w *world) count(sql string, args ...any) int {
	w.t.Helper()
	var n int
	if err := w.pool.QueryRow(w.t.Context(), sql, args...).Scan(&n); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// objectKeys lists the bucket, unfinished multipart uploads included.
func (w *world) objectKeys() []string {
	w.t.Helper()
	var keys []string
	for o, err := range w.objects.List(w.t.Context(), "") {
		if err != nil {
			w.t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	for u, err := range w.objects.ListUnfinished(w.t.Context(), "") {
		if err != nil {
			w.t.Fatal(err)
		}
		keys = append(keys, "unfinished "+u.Key)
	}
	return keys
}

// wantNothingStaged fails unless there is no row, no feed entry and no object.
func (w *world) wantNothingStaged() {
	w.t.Helper()
	if n := w.count(`SELECT count(*) FROM pending_uploads`); n != 0 {
		w.t.Errorf("%d rows of pending_uploads are left", n)
	}
	if n := w.count(`SELECT count(*) FROM activity_logs`); n != 0 {
		w.t.Errorf("%d feed entries are left", n)
	}
	if keys := w.objectKeys(); len(keys) != 0 {
		w.t.Errorf("objects are left: %v", keys)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func withoutAdmin(cfg *handlers.Config) { cfg.AdminToken = "" }
