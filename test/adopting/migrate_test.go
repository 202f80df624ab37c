package adopting

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads"
	"github.com/molecule-ai/pendinguploads/migrations"
)

// down rolls the uploads set back, a migration at a time as the command does.
func (p *platform) down(ctx context.Context) error {
	for {
		rolled, err := migrations.Down(ctx, p.url, migrations.Uploads)
		if err != nil || len(rolled) == 0 {
			return err
		}
	}
}

// pollers stage, read and acknowledge, over and over, until stop is called. Every
// file has to come back whole.
type pollers struct {
	rounds []atomic.Int64
	slow   atomic.Int64 // nanoseconds of the slowest statement since it was reset
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// startPollers lets each of the storages be used by a goroutine of its own.
func startPollers(tb testing.TB, by ...pendinguploads.Storage) *pollers {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	l := &pollers{rounds: make([]atomic.Int64, len(by)), cancel: cancel}
	for i, s := range by {
		l.wg.Go(func() {
			for ctx.Err() == nil {
				if err := l.round(context.WithoutCancel(ctx), s); err != nil {
					tb.Errorf("%T: %v", s, err)
					return
				}
				l.rounds[i].Add(1)
			}
		})
	}
	tb.Cleanup(l.stop)
	return l
}

func (l *pollers) stop() { l.cancel(); l.wg.Wait() }

func (l *pollers) round(ctx context.Context, s pendinguploads.Storage) error {
	ws, content := uuid.New(), strings.Repeat(uuid.NewString(), 120) // 4.2 KiB
	var id uuid.UUID
	for _, step := range []func() error{
		func() (err error) { id, err = s.Put(ctx, ws, []byte(content), "a", "text/plain"); return err },
		func() error {
			r, err := s.Get(ctx, id)
			if err == nil && (string(r.Content) != content || r.WorkspaceID != ws) {
				err = fmt.Errorf("got %d bytes of %v, want %d of %v", len(r.Content), r.WorkspaceID, len(content), ws)
			}
			return err
		},
		func() error { return s.MarkFetched(ctx, id) },
		func() error { return s.Ack(ctx, id) },
		func() error {
			if _, err := s.Get(ctx, id); !errors.Is(err, pendinguploads.ErrNotFound) {
				return fmt.Errorf("after the ack: %w", errors.Join(err, errors.New("want not found")))
			}
			return nil
		},
	} {
		start := time.Now()
		if err := step(); err != nil {
			return err
		}
		took := int64(time.Since(start))
		for slowest := l.slow.Load(); took > slowest && !l.slow.CompareAndSwap(slowest, took); slowest = l.slow.Load() {
		}
	}
	return nil
}

// go10 waits until every poller has been around ten times more.
func (l *pollers) go10(tb testing.TB) {
	tb.Helper()
	want := make([]int64, len(l.rounds))
	for i := range l.rounds {
		want[i] = l.rounds[i].Load() + 10
	}
	eventually(tb, func() bool {
		for i := range l.rounds {
			if l.rounds[i].Load() < want[i] {
				return tb.Failed()
			}
		}
		return true
	})
}

// Binaries of steps 0 and 1 go on while the table is migrated, and while it goes
// back, whether their driver keeps statements prepared (pgx) or not.
func TestMigrateWhilePlatformsRun(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"postgres", "pgx"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			p := openDatabase(t, driver)
			l := startPollers(t, p.old, p.old, p.inline, p.inline)
			for range 2 {
				l.go10(t)
				p.migrate(t)
				l.go10(t)
				if err := p.down(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			l.go10(t)
			l.stop()
		})
	}
}

// A transaction of the platform's that is open when the migration comes goes on: it
// already holds what it needs of the table, and more, and the migration waits.
func TestMigrateWaitsForTransactions(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]func(p *platform) pendinguploads.FullStorage{"old": old, "NewPostgres": inline} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := openDatabase(t, "postgres")
			tx, err := p.db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			item := pendinguploads.PutItem{Content: []byte("x"), Filename: "a"}
			stage := func() uuid.UUID {
				ids, err := by(p).PutBatchTx(t.Context(), tx, uuid.New(), []pendinguploads.PutItem{item})
				if err != nil {
					t.Fatal(err)
				}
				return ids[0]
			}
			ids := []uuid.UUID{stage()}
			migrated := make(chan error, 1)
			go func() { migrated <- pendinguploads.Migrate(t.Context(), p.db) }()
			eventually(t, func() bool { return p.waiting(t) > 0 })
			ids = append(ids, stage())
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			if err := <-migrated; err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				if r, err := p.old.Get(t.Context(), id); err != nil || string(r.Content) != "x" {
					t.Errorf("%q, %v", r.Content, err)
				}
			}
		})
	}
}

// From step 4 all the way back: with the limit raised again new files are inline,
// the migration goes back when the last object row is gone and not before, and what
// is left is the old binary's.
func TestTheWayBack(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, "postgres")
	p.migrate(t)
	object := put(t, p.s3, "object")
	rows := []uuid.UUID{put(t, p.old, "x"), put(t, p.inline, "x"), put(t, p.s3cap, "x")}
	if r, err := p.s3cap.Get(t.Context(), object); err != nil || string(r.Content) != "object" {
		t.Errorf("with the limit raised: %q, %v", r.Content, err)
	}

	const refusal = "pending_uploads has 1 rows whose content lies in objects"
	if err := p.down(t.Context()); err == nil || !strings.Contains(err.Error(), refusal) {
		t.Fatalf("%v, want %q", err, refusal)
	}
	p.migrate(t) // what went back before the refusal
	if err := p.s3cap.Ack(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	if r, err := p.s3cap.Sweep(t.Context(), 0); err != nil || r.Acked != 1 {
		// Acks of this very instant are not swept yet.
		eventually(t, func() bool { r, err = p.s3cap.Sweep(t.Context(), 0); return err != nil || r.Acked == 1 })
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := p.down(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, id := range rows {
		for _, by := range []pendinguploads.Storage{p.old, p.inline} {
			if r, err := by.Get(t.Context(), id); err != nil || string(r.Content) != "x" {
				t.Errorf("%T: %q, %v", by, r.Content, err)
			}
		}
	}
	if _, err := p.s3cap.Get(t.Context(), rows[0]); err == nil {
		t.Error("NewS3 reads a table without its columns")
	}
	put(t, p.old, "x")
}

// The column of inline bytes is named by every statement, so it stays, empty.
func TestContentColumnIsNeeded(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, "postgres")
	p.migrate(t)
	id := put(t, p.s3, "x")
	p.exec(t, `ALTER TABLE pending_uploads DROP COLUMN content`)
	_, err := p.s3.Get(t.Context(), id)
	_, putErr := p.s3.Put(t.Context(), uuid.New(), []byte("x"), "a", "")
	for what, err := range map[string]error{"Get": err, "Put": putErr} {
		if err == nil || !strings.Contains(err.Error(), `column "content"`) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := p.count(t, `SELECT count(*) FROM pg_constraint WHERE conname = 'pending_uploads_placement_check'`); n != 0 {
		t.Error("the check of the placement is still there")
	}
}
