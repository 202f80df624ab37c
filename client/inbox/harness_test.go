package inbox_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/client/inbox"
	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

func TestMain(m *testing.M) {
	if settings := os.Getenv(childVariable); settings != "" {
		os.Exit(child(context.Background(), settings)) //nolint:forbidigo // a program of its own
	}
	devstack.Main(m, func() error { return goleak.Find() })
}

const adminToken = "admin-token-of-the-test"

// world is a running service on PostgreSQL and MinIO.
type world struct {
	url        string
	pool       *pgxpool.Pool
	workspaces *metadata.Workspaces
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldWith(t, func(*s3blob.Config) {})
}

// newWorldWith is newWorld with another way to the bucket.
func newWorldWith(t *testing.T, change func(*s3blob.Config)) *world {
	t.Helper()
	ctx := t.Context()
	pool, err := metadata.Open(ctx, metadata.PoolConfig{URL: devstack.Database(t), MaxConns: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	bucket := devstack.MinIO(t)
	parts, err := blob.NewPool(blob.PoolConfig{BudgetBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	inBucket := s3blob.Config{
		Bucket: bucket.Bucket, Region: bucket.Region, Endpoint: bucket.Endpoint, PathStyle: bucket.PathStyle,
		Credentials: credentials.NewStaticCredentialsProvider(bucket.AccessKey, bucket.SecretKey, bucket.SessionToken),
		Pool:        parts,
	}
	change(&inBucket)
	objects, err := s3blob.Open(ctx, inBucket)
	if err != nil {
		t.Fatal(err)
	}
	hub := handlers.NewHub()
	activity := metadata.NewActivity(metadata.ActivityConfig{DB: pool, Publisher: hub})
	uploads := metadata.NewUploads(metadata.UploadsConfig{DB: pool, Announcer: activity})
	store, err := staging.New(staging.Config{Rows: uploads, Objects: objects, KeyPrefix: "t", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{pool: pool, workspaces: metadata.NewWorkspaces(metadata.WorkspacesConfig{DB: pool})}
	api, err := handlers.New(handlers.Config{
		Storage: store, Uploads: uploads, Workspaces: w.workspaces, Tokens: metadata.NewTokens(pool), Activity: activity, Hub: hub,
		AdminToken: adminToken, RegisterFailOpen: true, RateLimit: -1, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.url = serve(t, api.HTTPServer(""))
	return w
}

// serve serves until the test ends and returns the URL.
func serve(t *testing.T, server *http.Server) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
		_ = server.Close()
		<-served
	})
	return "http://" + listener.Addr().String()
}

// user is a workspace with somebody who sends it files.
type user struct {
	t      *testing.T
	world  *world
	id     storage.WorkspaceID
	token  string
	client *client.Client // the sender's
}

func (w *world) user(t *testing.T) *user {
	t.Helper()
	fresh, err := storage.NewFileID()
	if err != nil {
		t.Fatal(err)
	}
	created, token, err := w.workspaces.Create(t.Context(), metadata.NewWorkspace{
		ID: storage.WorkspaceID(fresh), DeliveryMode: "poll", Status: "online",
	}, metadata.TokenInstance)
	if err != nil {
		t.Fatal(err)
	}
	u := &user{t: t, world: w, id: created.ID, token: token}
	u.client = u.connect(adminToken)
	return u
}

// connect makes a client of the workspace.
func (u *user) connect(token string, change ...func(*client.Config)) *client.Client {
	u.t.Helper()
	cfg := client.Config{BaseURL: u.world.url, Workspace: u.id, Token: token, Patience: -1}
	for _, f := range change {
		f(&cfg)
	}
	c, err := client.New(cfg)
	if err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(c.Close)
	return c
}

// blobFile is a file to send.
type blobFile struct {
	name    string
	content []byte
}

func content(n int, seed uint64) []byte {
	random := rand.New(rand.NewPCG(seed, 7))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

func (u *user) upload(files ...blobFile) []wire.UploadedFile {
	u.t.Helper()
	var all []client.File
	for _, f := range files {
		all = append(all, client.File{Name: f.name, Size: int64(len(f.content)), Open: func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(f.content)), nil
		}})
	}
	uploaded, err := u.client.Upload(u.t.Context(), all, client.UploadOptions{})
	if err != nil {
		u.t.Fatal(err)
	}
	return uploaded
}

func (u *user) say(text string, files ...wire.UploadedFile) {
	u.t.Helper()
	if err := u.client.Send(u.t.Context(), client.Message{Text: text, Files: files}); err != nil {
		u.t.Fatal(err)
	}
}

// unacked counts the files that the service still waits for an ack of.
func (u *user) unacked() int {
	u.t.Helper()
	return u.count(`SELECT count(*) FROM pending_uploads WHERE workspace_id = $1 AND acked_at IS NULL`, u.id.String())
}

func (u *user) count(sql string, args ...any) int {
	u.t.Helper()
	var n int
	if err := u.world.pool.QueryRow(u.t.Context(), sql, args...).Scan(&n); err != nil {
		u.t.Fatalf("%s: %v", sql, err)
	}
	return n
}

func (u *user) exec(sql string, args ...any) {
	u.t.Helper()
	if _, err := u.world.pool.Exec(u.t.Context(), sql, args...); err != nil {
		u.t.Fatalf("%s: %v", sql, err)
	}
}

// listing is name → SHA-256 of what a folder shows.
type listing map[string]string

func digest(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// visible lists a folder; files that are still being written are not shown to
// anybody who goes by names.
func visible(t *testing.T, dir string) listing {
	t.Helper()
	all := listing{}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if inbox.IsTemp(e.Name()) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = digest(b)
	}
	return all
}

// wantFolder wants exactly these files and nothing half written.
func wantFolder(t *testing.T, dir string, want listing) {
	t.Helper()
	if diff := cmp.Diff(want, visible(t, dir)); diff != "" {
		t.Errorf("the folder differs (-want +got):\n%s", diff)
	}
	wantNoTemps(t, dir)
}

func wantNoTemps(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if inbox.IsTemp(e.Name()) {
			t.Errorf("%s is left over", e.Name())
		}
	}
}

// digests is what a folder shows, without the names.
func (l listing) digests() []string { return slices.Sorted(maps.Values(l)) }

// inbox makes an inbox for the user in dir, whose events are collected.
func (u *user) inbox(dir string, change ...func(*inbox.Config)) (*inbox.Inbox, *events) {
	u.t.Helper()
	e := newEvents(u.t)
	cfg := inbox.Config{
		Client: u.connect(u.token), Dir: dir, MinFree: -1,
		OnFile:    func(f inbox.File) { e.add(func() { e.files = append(e.files, f) }) },
		OnTrouble: func(err error) { e.add(func() { e.troubles = append(e.troubles, err) }) },
		Handler: func(_ context.Context, m inbox.Message) error {
			e.add(func() { e.messages = append(e.messages, m) })
			return nil
		},
		Logger: slog.New(slog.NewTextHandler(u.t.Output(), nil)),
	}
	for _, f := range change {
		f(&cfg)
	}
	in, err := inbox.New(cfg)
	if err != nil {
		u.t.Fatal(err)
	}
	in.Pause(20*time.Millisecond, 50*time.Millisecond)
	return in, e
}

func once(c *inbox.Config) { c.Follow.Once = true }

// drain runs an inbox to the end of the feed.
func drain(t *testing.T, in *inbox.Inbox) {
	t.Helper()
	if err := in.Run(t.Context()); err != nil {
		t.Fatalf("drain: %v", err)
	}
}

// start runs an inbox until stop is called, which wants a clean end.
func start(t *testing.T, in *inbox.Inbox) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- in.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("stopped inbox: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func inboxDir(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "inbox")
}
