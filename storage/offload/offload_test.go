package offload_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/stagingtest"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/offload"
)

func TestThereVerifyAndBack(t *testing.T) {
	t.Parallel()
	for name, server := range map[string]func(testing.TB) devstack.S3{"MinIO": devstack.MinIO, "VersityGW": devstack.VersityGW} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, server)
			for _, size := range []int{1, 100, 101, 4096, storage.MiB, storage.MiB + 1, 5 * storage.MiB, 6*storage.MiB + 1} {
				w.put(t, noise(size))
			}
			// As the reference software wrote it: a random id, and no digest.
			for range 40 {
				w.row(t, noise(5000), storage.Digest{}, uuid.New())
			}
			var bytes int64
			for _, b := range w.files {
				bytes += int64(len(b))
			}
			cfg := w.config(offload.ToObjects)
			cfg.InlineMaxBytes, cfg.Batch = 100, 3
			if r := w.run(t, cfg); r != (offload.Result{Rows: 46, Bytes: bytes - 101}) {
				t.Errorf("moved %+v", r)
			}
			if n := w.objects.opens.Load(); n != 0 {
				t.Errorf("%d objects were read back, although the store keeps their SHA-256", n)
			}
			if n := w.intact(t); n != 46 {
				t.Errorf("%d files in objects, want those above INLINE_MAX_BYTES", n)
			}
			if r := w.run(t, cfg); r != (offload.Result{}) {
				t.Errorf("moved again: %+v", r)
			}
			if r := w.run(t, w.config(offload.Verify)); r != (offload.Result{Rows: 46, Bytes: bytes - 101}) {
				t.Errorf("verified %+v", r)
			}
			cfg = w.config(offload.ToRows)
			cfg.InlineMaxBytes = 5 * storage.MiB
			if r := w.run(t, cfg); r.Rows != 45 || r.Left+r.Held+r.Corrupt != 0 {
				t.Errorf("moved back %+v", r)
			}
			if n := w.intact(t); n != 1 {
				t.Errorf("%d files in objects, want the one above INLINE_MAX_BYTES", n)
			}
			// Objects stay for their readers until their rows are gone.
			if n := w.orphans(t); n != 0 {
				t.Errorf("%d objects of live rows removed", n)
			}
			w.exec(t, `UPDATE pending_uploads SET expires_at = now() - interval '1 second'`)
			if r, err := w.store.Sweep(t.Context(), 0, 100); err != nil || r.Expired != 48 {
				t.Errorf("swept %+v, %v", r, err)
			}
			if n := w.orphans(t); n != 45 {
				t.Errorf("%d orphans, want the objects that rows were moved out of", n)
			}
			if keys := stagingtest.Keys(t, w.objects); len(keys) != 0 {
				t.Errorf("left %v", keys)
			}
		})
	}
}

// A worker that lost its claim finds its row flipped by another: the object is the
// other's now.
func TestALoserLeavesTheWinnersObject(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]bool{"whose put fails": true, "whose flip comes late": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, devstack.MinIO)
			w.put(t, noise(storage.MiB))
			inside, goOn := make(chan struct{}), make(chan struct{})
			slow := &objects{Store: w.objects.Store, Header: w.objects.Header}
			var once sync.Once
			slow.stored = func(ctx context.Context, _ string) error {
				once.Do(func() { close(inside) })
				<-goOn
				if fails {
					return errors.New("connection reset")
				}
				return ctx.Err()
			}
			cfg := w.config(offload.ToObjects)
			cfg.Objects = slow
			m, err := offload.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			type end struct {
				r   offload.Result
				err error
			}
			ended := make(chan end, 1)
			go func() {
				r, err := m.Run(t.Context())
				ended <- end{r, err}
			}()
			<-inside
			if r := w.run(t, w.config(offload.ToObjects)); r != (offload.Result{Held: 1}) {
				t.Errorf("beside the claim: %+v", r)
			}
			w.exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = current_database() AND state = 'idle in transaction'`)
			// The claim is gone once its backend is.
			var r offload.Result
			for r.Rows == 0 && t.Context().Err() == nil {
				r = w.run(t, w.config(offload.ToObjects))
			}
			close(goOn)
			if e := <-ended; e.err != nil || e.r != (offload.Result{Left: 1}) {
				t.Errorf("the loser: %+v, %v", e.r, e.err)
			}
			if n := w.intact(t); n != 1 || slow.deletes.Load() != 0 {
				t.Errorf("%d files in objects, %d deletes", n, slow.deletes.Load())
			}
		})
	}
}

// What becomes of the copy of a row that ends between put and flip.
func TestARowThatEndsWhileItIsCopied(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end      func(t *testing.T, w *world, f storage.FileID)
		removed  bool // at once
		acked    bool
		orphaned int // once the row is swept
	}{
		"acked": {func(t *testing.T, w *world, f storage.FileID) {
			if err := w.store.Ack(t.Context(), w.ws, f); err != nil {
				t.Error(err)
			}
		}, false, true, 1},
		"expired": {func(t *testing.T, w *world, _ storage.FileID) {
			w.exec(t, `UPDATE pending_uploads SET expires_at = now() - interval '1 second'`)
		}, false, false, 1},
		"being swept": {func(t *testing.T, w *world, f storage.FileID) {
			if err := w.store.Ack(t.Context(), w.ws, f); err != nil {
				t.Error(err)
			}
			if n, err := w.uploads.MarkDue(t.Context(), -1, 10); err != nil || n != 1 {
				t.Error(n, err)
			}
		}, true, true, 0},
		"swept": {func(t *testing.T, w *world, f storage.FileID) {
			if err := w.store.Ack(t.Context(), w.ws, f); err != nil {
				t.Error(err)
			}
			if r, err := w.store.Sweep(t.Context(), -1, 10); err != nil || r.Acked != 1 {
				t.Error(r, err)
			}
		}, true, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, devstack.MinIO)
			f := w.put(t, noise(5000))
			w.objects.stored = func(context.Context, string) error { c.end(t, w, f); return nil }
			if r := w.run(t, w.config(offload.ToObjects)); r != (offload.Result{Left: 1}) {
				t.Errorf("%+v", r)
			}
			if keys := stagingtest.Keys(t, w.objects); (len(keys) == 0) != c.removed {
				t.Errorf("objects %v; removed at once: want %v", keys, c.removed)
			}
			if n := w.orphans(t); n != 0 {
				t.Errorf("%d orphans while there is a row, or none at all", n)
			}
			if _, err := w.store.Sweep(t.Context(), -1, 10); err != nil {
				t.Fatal(err)
			}
			if n := w.orphans(t); n != c.orphaned {
				t.Errorf("%d orphans, want %d", n, c.orphaned)
			}
			if keys := stagingtest.Keys(t, w.objects); len(keys) != 0 {
				t.Errorf("left %v", keys)
			}
		})
	}
}

func TestAckedRowsGoWhereTheyAreRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devstack.MinIO)
	f := w.put(t, noise(5000))
	if err := w.store.Ack(t.Context(), w.ws, f); err != nil {
		t.Fatal(err)
	}
	if r := w.run(t, w.config(offload.ToObjects)); r != (offload.Result{}) {
		t.Errorf("read until acked: %+v", r)
	}
	cfg := w.config(offload.ToObjects)
	cfg.Uploads = metadata.NewUploads(metadata.UploadsConfig{DB: w.db, ReadAfterAck: true})
	if r := w.run(t, cfg); r.Rows != 1 {
		t.Errorf("read after ack: %+v", r)
	}
}

func TestContentThatIsNotWhatWasStagedStaysAndIsMarked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devstack.MinIO)
	w.put(t, noise(5000))
	content := noise(2*storage.MiB + 5)
	digest := w.row(t, content, storage.Digest{1}, uuid.Must(uuid.NewV7()))
	short, long := w.put(t, noise(storage.MiB)), w.put(t, noise(storage.MiB+7))
	w.exec(t, `UPDATE pending_uploads SET size_bytes = size_bytes + 1, sha256 = NULL WHERE file_id = $1`, uuid.UUID(short))
	w.exec(t, `UPDATE pending_uploads SET size_bytes = 1, sha256 = NULL WHERE file_id = $1`, uuid.UUID(long))
	if r := w.run(t, w.config(offload.ToObjects)); r != (offload.Result{Rows: 1, Bytes: 5000, Corrupt: 3}) {
		t.Errorf("%+v", r)
	}
	if keys := stagingtest.Keys(t, w.objects); len(keys) != 1 {
		t.Errorf("objects %v, want the good one", keys)
	}
	if n, err := w.uploads.CountCorrupt(t.Context()); err != nil || n != 3 {
		t.Errorf("%d marked, %v", n, err)
	}
	for _, f := range []storage.FileID{digest, short, long} {
		delete(w.files, f)
	}
	if n := w.intact(t); n != 1 {
		t.Errorf("%d in objects", n)
	}
}

// Other software stored types as they came. No header carries these.
func TestRowsOfAnyMIMETypeAreMoved(t *testing.T) {
	t.Parallel()
	for name, server := range map[string]func(testing.TB) devstack.S3{"MinIO": devstack.MinIO, "VersityGW": devstack.VersityGW} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, server)
			odd := []string{"text/plain;\tcharset=utf-8", "a\r\nx-amz-acl: public-read", "\x01", "файл", "a/" + strings.Repeat("b", 10_000)}
			for _, mimeType := range odd {
				// One in one request, one in parts.
				for _, size := range []int{5000, 6 * storage.MiB} {
					w.exec(t, `UPDATE pending_uploads SET mimetype = $2 WHERE file_id = $1`, uuid.UUID(w.put(t, noise(size))), mimeType)
				}
			}
			cfg := w.config(offload.ToObjects)
			cfg.Patience = time.Second
			if r := w.run(t, cfg); r.Rows != int64(2*len(odd)) || r.Left+r.Corrupt != 0 {
				t.Errorf("%+v", r)
			}
			w.intact(t)
		})
	}
}

// What counts is for how long something fails, not how long it went well before.
func TestAFailureAfterALongCopyIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devstack.MinIO)
	w.put(t, noise(5000))
	cfg := w.config(offload.ToObjects)
	cfg.Patience = 300 * time.Millisecond
	w.objects.stored = func(context.Context, string) error {
		if w.objects.puts.Load() > 1 {
			return nil
		}
		<-time.After(2 * cfg.Patience) // the copy
		return errors.New("connection reset")
	}
	if r := w.run(t, cfg); r.Rows != 1 || w.objects.puts.Load() != 2 {
		t.Errorf("%+v after %d puts", r, w.objects.puts.Load())
	}
}

// One row that cannot be moved does not keep the others; a store that takes nothing
// ends the run before every row has been tried.
func TestRowsThatFail(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	for name, c := range map[string]struct {
		all          bool
		rows, failed int64
	}{"one": {false, 19, 1}, "all": {true, 0, 4}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, devstack.MinIO)
			var bad storage.FileID
			for range 20 {
				bad = w.put(t, noise(5000))
			}
			w.objects.stored = func(_ context.Context, key string) error {
				if c.all || strings.HasSuffix(key, bad.String()) {
					return refused
				}
				return nil
			}
			cfg := w.config(offload.ToObjects)
			cfg.Patience = time.Millisecond
			r, err := w.try(t.Context(), t, cfg)
			if !errors.Is(err, refused) || r.Rows != c.rows || r.Failed < c.failed || r.Failed > c.failed+3 || !c.all && r.Failed != 1 {
				t.Errorf("%+v, %v; want %d moved and %d failed", r, err, c.rows, c.failed)
			}
			if !c.all && !strings.Contains(err.Error(), bad.String()) {
				t.Errorf("the error does not name upload %v: %v", bad, err)
			}
			// The next run has them again.
			w.objects.stored = nil
			if r := w.run(t, w.config(offload.ToObjects)); r.Rows != 20-c.rows || r.Failed != 0 {
				t.Errorf("next: %+v", r)
			}
			w.intact(t)
		})
	}
}

func TestVerifyAndBackNoticeDamagedObjects(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]offload.Mode{"verify": offload.Verify, "back": offload.ToRows} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, devstack.MinIO)
			for range 4 {
				w.put(t, noise(5000))
			}
			good := w.put(t, noise(6000))
			w.run(t, w.config(offload.ToObjects))
			keys := stagingtest.Keys(t, w.objects)
			slices.Sort(keys) // as the rows were put
			for i, damaged := range [][]byte{noise(5001)[:5000], noise(4999), noise(5001)} {
				if err := w.objects.Store.Put(t.Context(), keys[i], bytes.NewReader(damaged), blob.PutOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.objects.Store.Delete(t.Context(), keys[3]); err != nil {
				t.Fatal(err)
			}
			cfg := w.config(mode)
			cfg.InlineMaxBytes = storage.MiB
			if r := w.run(t, cfg); r != (offload.Result{Rows: 1, Bytes: 6000, Corrupt: 4}) {
				t.Errorf("%+v", r)
			}
			if n, err := w.uploads.CountCorrupt(t.Context()); err != nil || n != 4 {
				t.Errorf("%d marked, %v", n, err)
			}
			w.files = map[storage.FileID][]byte{good: w.files[good]}
			w.intact(t)
		})
	}
}

// An object that the store does not give back is put again, and never cited.
func TestARowIsFlippedOnlyToWhatIsReadBack(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(blob.Info) blob.Info{
		"another size":   func(i blob.Info) blob.Info { i.Size--; return i },
		"another digest": func(i blob.Info) blob.Info { i.SHA256 = &[sha256.Size]byte{}; return i },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, devstack.MinIO)
			w.put(t, noise(5000))
			heads := 0
			w.objects.head = func(i blob.Info) blob.Info {
				if heads++; heads < 3 {
					return spoil(i)
				}
				return i
			}
			if r := w.run(t, w.config(offload.ToObjects)); r.Rows != 1 || w.objects.puts.Load() != 3 {
				t.Errorf("%+v after %d puts", r, w.objects.puts.Load())
			}
			w.intact(t)
			w.put(t, noise(5000))
			heads = math.MinInt
			cfg := w.config(offload.ToObjects)
			cfg.Patience = time.Millisecond
			m, err := offload.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if r, err := m.Run(t.Context()); err == nil || r.Rows != 0 || !strings.Contains(err.Error(), "does not return what was put") {
				t.Errorf("%+v, %v", r, err)
			}
			if n := w.intact(t); n != 1 {
				t.Errorf("%d in objects", n)
			}
		})
	}
}

// The limiter refuses at once to wait beyond the end of its context.
func TestRatesAreKept(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit func(*offload.Config)
		of    string
		size  int
	}{
		"bytes":              {func(c *offload.Config) { c.BytesPerSecond = 1 }, "bytes", storage.MiB},
		"rows":               {func(c *offload.Config) { c.RowsPerSecond = 1e-6 }, "rows", storage.MiB},
		"rows of small ones": {func(c *offload.Config) { c.RowsPerSecond = 1e-6 }, "rows", 5000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, devstack.MinIO)
			for range 3 {
				w.put(t, noise(c.size))
			}
			cfg := w.config(offload.ToObjects)
			cfg.Workers = 1
			c.limit(&cfg)
			m, err := offload.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			if r, err := m.Run(ctx); err == nil || r.Rows != 1 || !strings.Contains(err.Error(), "rate of "+c.of) {
				t.Errorf("%+v, %v; want the first row and no more within the hour", r, err)
			}
		})
	}
}

func TestAWrongConfigIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, devstack.MinIO)
	for want, change := range map[string]func(*offload.Config){
		"required":         func(c *offload.Config) { c.Objects = nil },
		"mode":             func(c *offload.Config) { c.Mode = 3 },
		"Budget":           func(c *offload.Config) { c.Mode, c.Budget = offload.ToRows, nil },
		"INLINE_MAX_BYTES": func(c *offload.Config) { c.Mode = offload.ToRows },
		"workers":          func(c *offload.Config) { c.Workers = 65 },
		"connections":      func(c *offload.Config) { c.Workers = 7 }, // of 12
		"batch":            func(c *offload.Config) { c.Batch = 257 },
		"bytes per second": func(c *offload.Config) { c.BytesPerSecond = -1 },
		"rows per second":  func(c *offload.Config) { c.RowsPerSecond = math.NaN() },
		"S3_PREFIX":        func(c *offload.Config) { c.KeyPrefix = "/x" },
	} {
		cfg := w.config(offload.ToObjects)
		change(&cfg)
		if _, err := offload.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want one that names %s", err, want)
		}
	}
}
