package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/internal/servertest"
	"github.com/molecule-ai/pendinguploads/internal/stagingtest"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

// offloadPrefix is S3_PREFIX's default.
const offloadPrefix = "pending-uploads"

// offloaded is a table that stores put into and `pendinguploads offload` moves out
// of. The state of each file is changed under its lock, so what is wanted of it is
// always known.
type offloaded struct {
	*servertest.Stack
	db      *pgxpool.Pool
	objects blob.Store
	store   *staging.Store
	late    *staging.Store // lives a day later
	ws      storage.WorkspaceID
	calm    atomic.Bool // no orphan sweeps any more

	mu    sync.Mutex
	files []*offloadedFile
}

type offloadedFile struct {
	mu    sync.Mutex
	id    storage.FileID
	sum   storage.Digest
	acked bool
}

func newOffloaded(t *testing.T) *offloaded {
	t.Helper()
	o := &offloaded{Stack: servertest.NewStack(t)}
	var err error
	if o.db, err = pgxpool.New(t.Context(), o.Database); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.db.Close)
	pool, err := blob.NewPool(blob.PoolConfig{MaxWait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	o.objects = stagingtest.OpenBucket(t, o.S3, pool).Store
	id, err := storage.NewFileID()
	if err != nil {
		t.Fatal(err)
	}
	o.ws = storage.WorkspaceID(id)
	o.store = o.open(t, pool, time.Now)
	o.late = o.open(t, pool, func() time.Time { return time.Now().Add(24 * time.Hour) })
	return o
}

// open is a store that puts everything into rows.
func (o *offloaded) open(t *testing.T, pool *blob.Pool, now func() time.Time) *staging.Store {
	t.Helper()
	s, err := staging.New(staging.Config{
		Rows: metadata.NewUploads(metadata.UploadsConfig{DB: o.db}), Objects: o.objects, Budget: pool,
		InlineMaxBytes: storage.DefaultMaxFileBytes, KeyPrefix: offloadPrefix, Now: now, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (o *offloaded) put(ctx context.Context, r *rand.Rand) error {
	size := 1 + r.IntN(30_000)
	switch r.IntN(10) {
	case 0:
		size = 1 + r.IntN(8*storage.MiB)
	case 1, 2:
		size = 1 + r.IntN(2*storage.MiB)
	}
	content := make([]byte, size)
	for i := 0; i < len(content); i += 997 {
		content[i] = byte(r.Uint32())
	}
	f := &offloadedFile{sum: sha256.Sum256(content)}
	record, err := o.store.Put(ctx, o.ws, storage.Upload{Filename: "a", Body: bytes.NewReader(content)})
	if err != nil {
		return fmt.Errorf("put: %w", err)
	}
	f.id = record.FileID
	o.mu.Lock()
	defer o.mu.Unlock()
	o.files = append(o.files, f)
	return nil
}

func (o *offloaded) pick(r *rand.Rand) *offloadedFile {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.files[r.IntN(len(o.files))]
}

// read wants a file's bytes, or that it is not found where it is acked.
func (o *offloaded) read(ctx context.Context, f *offloadedFile) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	sum := sha256.New()
	record, err := o.store.Get(ctx, o.ws, f.id)
	if f.acked {
		if !errors.Is(err, storage.ErrNotFound) {
			return fmt.Errorf("acked file %v: %w", f.id, err)
		}
		return nil
	}
	if err == nil {
		var rc io.ReadCloser
		if rc, err = record.Content.Open(ctx, storage.Range{}); err == nil {
			_, err = io.Copy(sum, rc)
			err = errors.Join(err, rc.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("file %v: %w", f.id, err)
	}
	if got := storage.Digest(sum.Sum(nil)); got != f.sum || record.Content.SHA256 != f.sum {
		return fmt.Errorf("file %v in %s has other bytes", f.id, record.Content.Placement)
	}
	return nil
}

func (o *offloaded) ack(ctx context.Context, f *offloadedFile) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := o.store.Ack(ctx, o.ws, f.id)
	if f.acked && errors.Is(err, storage.ErrNotFound) {
		return nil // swept
	}
	f.acked = true
	return err
}

func (o *offloaded) sweep(ctx context.Context) error {
	if _, err := o.store.Sweep(ctx, -1, 50); err != nil {
		return err
	}
	if o.calm.Load() {
		return nil
	}
	// To this one everything is old: what keeps an object is its row alone, whose id
	// may be of any age. It aborts multipart uploads as they run, too.
	_, err := o.late.SweepOrphans(ctx, time.Hour)
	return err
}

// use does all of it until ctx ends.
func (o *offloaded) use(t *testing.T, ctx context.Context) *sync.WaitGroup {
	var using sync.WaitGroup
	loop := func(seed uint64, what func(ctx context.Context, r *rand.Rand) error) {
		r := rand.New(rand.NewPCG(seed, 5)) //nolint:gosec // test data
		using.Go(func() {
			for ctx.Err() == nil {
				// What has begun is finished, so that its outcome is known.
				if err := what(t.Context(), r); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	loop(1, func(ctx context.Context, r *rand.Rand) error {
		pause(ctx, 20*time.Millisecond)
		return o.put(ctx, r)
	})
	loop(2, func(ctx context.Context, r *rand.Rand) error { return o.read(ctx, o.pick(r)) })
	loop(3, func(ctx context.Context, r *rand.Rand) error { return o.read(ctx, o.pick(r)) })
	loop(4, func(ctx context.Context, r *rand.Rand) error {
		pause(ctx, 60*time.Millisecond)
		return o.ack(ctx, o.pick(r))
	})
	loop(5, func(ctx context.Context, _ *rand.Rand) error {
		pause(ctx, 100*time.Millisecond)
		return o.sweep(ctx)
	})
	return &using
}

func (o *offloaded) command(t *testing.T, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), servertest.Binary(t), append([]string{"offload"}, args...)...)
	cmd.Env = o.Env
	return cmd
}

// run runs the command to its end.
func (o *offloaded) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := o.command(t, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("offload %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// killed runs two of the command at once and ends both with SIGKILL. It reports
// whether either had not ended before.
func (o *offloaded) killed(t *testing.T, after time.Duration, args ...string) bool {
	t.Helper()
	early := false
	first, second := o.command(t, args...), o.command(t, args...)
	for _, cmd := range []*exec.Cmd{first, second} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	pause(t.Context(), after)
	for _, cmd := range []*exec.Cmd{first, second} {
		_ = cmd.Process.Kill()
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() == -1 {
			early = true
		} else if err != nil {
			t.Errorf("offload ended by itself: %v", err)
		}
	}
	return early
}

func (o *offloaded) count(t *testing.T, where string) (n int) {
	t.Helper()
	if err := o.db.QueryRow(t.Context(), "SELECT count(*) FROM pending_uploads WHERE "+where).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Puts, reads, acks and sweeps go on while content is moved to the object store and
// back by processes that are killed.
func TestOffloadKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	const kills = 20
	o := newOffloaded(t)
	random := newRandom()
	for range 150 {
		if err := o.put(t.Context(), random); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	using := o.use(t, ctx)
	defer using.Wait()
	defer stop()
	early, back := 0, 0
	for n := range kills {
		var args []string
		if n%5 == 4 {
			args = []string{"--back", "--inline-max-bytes=26214400"}
			back++
		}
		if o.killed(t, time.Duration(50+random.IntN(300))*time.Millisecond, args...) {
			early++
		}
	}
	if early == 0 {
		t.Error("no kill came before the end of a move")
	}
	o.calm.Store(true) // or a large file could be aborted again and again
	o.run(t)
	stop()
	using.Wait()
	o.run(t)
	if n := o.count(t, "acked_at IS NULL AND content IS NOT NULL"); n != 0 {
		t.Errorf("%d live rows are inline still", n)
	}
	live := 0
	for _, f := range o.files {
		if err := o.read(t.Context(), f); err != nil {
			t.Error(err)
		}
		if !f.acked {
			live++
		}
	}
	if out := o.run(t, "--verify"); !strings.Contains(out, fmt.Sprintf("verified: rows=%d ", live)) || !strings.Contains(out, "corrupt=0") {
		t.Errorf("want %d verified: %s", live, out)
	}
	o.onlyCited(t, live)
	t.Logf("%d kills, %d of them in the middle, %d while moving back: %d files, %d live at the end", kills, early, back, len(o.files), live)
}

// onlyCited sweeps what is acked, and orphans as if all were a day old, and wants
// exactly the objects that rows cite.
func (o *offloaded) onlyCited(t *testing.T, live int) {
	t.Helper()
	if _, err := o.store.Sweep(t.Context(), -1, 10_000); err != nil {
		t.Fatal(err)
	}
	swept, err := o.late.SweepOrphans(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	found, err := o.db.Query(t.Context(), "SELECT object_key FROM pending_uploads WHERE object_key IS NOT NULL")
	if err != nil {
		t.Fatal(err)
	}
	cited, err := pgx.CollectRows(found, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	there := stagingtest.Keys(t, o.objects)
	slices.Sort(cited)
	slices.Sort(there)
	if diff := cmp.Diff(cited, there); diff != "" || len(there) != live {
		t.Errorf("%d objects, want %d; keys that rows cite, keys there are (-/+):\n%s", len(there), live, diff)
	}
	t.Logf("orphans: %+v", swept)
}
