package metadata_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// waiter counts what it is told.
type waiter struct{ wakes, ends atomic.Int32 }

func (w *waiter) Wake() { w.wakes.Add(1) }
func (w *waiter) End()  { w.ends.Add(1) }

func (w *waiter) woken() bool { return w.wakes.Load() > 0 }
func (w *waiter) ended() bool { return w.ends.Load() > 0 }

// never is a time between rounds after which no test waits any more.
const never = time.Hour

// run runs a watch until the test ends.
func run(t *testing.T, cfg metadata.FeedWatchConfig) *metadata.FeedWatch {
	t.Helper()
	fw := metadata.NewFeedWatch(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		fw.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return fw
}

// subscribe makes a waiter that has read up to head.
func subscribe(t *testing.T, fw *metadata.FeedWatch, ws storage.WorkspaceID, token uuid.UUID, head int64) *waiter {
	t.Helper()
	w := &waiter{}
	sub := fw.Subscribe(ws, token, w)
	sub.Advance(head)
	t.Cleanup(sub.Close)
	return w
}

func TestRoundWakesThoseThatAreBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.append(t, message("1"), message("2"))
	rounds := &batches{DB: w.pool}
	fw := run(t, metadata.FeedWatchConfig{DB: rounds, Poll: never})
	round := func() {
		t.Helper()
		before := rounds.n.Load()
		fw.Check()
		eventually(t, func() bool { return rounds.n.Load() > before })
	}
	behind, upToDate := subscribe(t, fw, w.ws, uuid.Nil, 1), subscribe(t, fw, w.ws, uuid.Nil, 2)
	empty := subscribe(t, fw, w.workspace(t, "empty", nil), uuid.Nil, 0)
	unread := &waiter{}
	sub := fw.Subscribe(w.ws, uuid.Nil, unread)
	closed := &waiter{}
	gone := fw.Subscribe(w.ws, uuid.Nil, closed)
	gone.Advance(0)
	gone.Close()
	gone.Close()
	round()
	for name, test := range map[string]struct {
		w    *waiter
		want bool
	}{"behind": {behind, true}, "up to date": {upToDate, false}, "empty": {empty, false}, "not read yet": {unread, false}, "closed": {closed, false}} {
		if test.w.woken() != test.want || test.w.ended() {
			t.Errorf("%s: woken %v, ended %v", name, test.w.woken(), test.w.ended())
		}
	}
	sub.Close()
}

// Where nobody waits nothing is asked: this watch has no database at all.
func TestNoRoundsWhileNobodyWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fw := run(t, metadata.FeedWatchConfig{})
		fw.Subscribe(storage.WorkspaceID(uuid.New()), uuid.Nil, &waiter{}).Close()
		fw.Check()
		<-time.After(time.Hour)
	})
}

// batches counts the batches that are done.
type batches struct {
	metadata.DB
	n atomic.Int32
}

type countedBatch struct {
	pgx.BatchResults
	n *atomic.Int32
}

func (b *batches) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	return countedBatch{b.DB.SendBatch(ctx, batch), &b.n}
}

func (c countedBatch) Close() error {
	defer c.n.Add(1)
	return c.BatchResults.Close()
}

func TestRoundEndsWhoeverHasLostTheRight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mint := func(ws storage.WorkspaceID) uuid.UUID {
		_, tok, err := w.tokens.Mint(t.Context(), ws, metadata.TokenAPI)
		if err != nil {
			t.Fatal(err)
		}
		return tok.ID
	}
	removed, purged := w.workspace(t, "removed", nil), w.workspace(t, "purged", nil)
	live, revoked, ofRemoved := mint(w.ws), mint(w.ws), mint(removed)
	fw := run(t, metadata.FeedWatchConfig{DB: w.pool, Poll: 20 * time.Millisecond})
	stays := []*waiter{subscribe(t, fw, w.ws, live, 0), subscribe(t, fw, w.ws, uuid.Nil, 0)}
	ends := []*waiter{
		subscribe(t, fw, w.ws, revoked, 0), subscribe(t, fw, removed, ofRemoved, 0),
		subscribe(t, fw, removed, uuid.Nil, 0), subscribe(t, fw, purged, uuid.Nil, 0),
	}
	if err := w.tokens.Revoke(t.Context(), w.ws, revoked); err != nil {
		t.Fatal(err)
	}
	// Marked by other software, which leaves the tokens as they are.
	w.exec(t, `UPDATE workspaces SET status = 'removed' WHERE id = $1`, uuid.UUID(removed))
	if _, err := w.workspaces.Remove(t.Context(), purged, metadata.RemoveOptions{Purge: true}); err != nil {
		t.Fatal(err)
	}
	for i, e := range ends {
		eventually(t, e.ended)
		if e.woken() {
			t.Errorf("waiter %d was woken", i)
		}
	}
	for i, s := range stays {
		if s.ended() {
			t.Errorf("waiter %d was ended", i)
		}
	}
}

// Behind a pooler in transaction mode statements are not prepared, and nothing of
// a session may be used.
func TestRoundsWorkInEveryModeOfQuery(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"exec", "simple_protocol", "cache_describe"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			u, err := url.Parse(devstack.Database(t))
			if err != nil {
				t.Fatal(err)
			}
			query := u.Query()
			query.Set("default_query_exec_mode", mode)
			u.RawQuery = query.Encode()
			pool, err := metadata.Open(t.Context(), metadata.PoolConfig{URL: u.String(), MaxConns: 4})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(pool.Close)
			workspaces, tokens := metadata.NewWorkspaces(metadata.WorkspacesConfig{DB: pool}), metadata.NewTokens(pool)
			made, _, err := workspaces.Create(t.Context(), metadata.NewWorkspace{Name: "w", DeliveryMode: "poll", Status: "online"}, "")
			if err != nil {
				t.Fatal(err)
			}
			_, tok, err := tokens.Mint(t.Context(), made.ID, metadata.TokenAPI)
			if err != nil {
				t.Fatal(err)
			}
			fw := run(t, metadata.FeedWatchConfig{DB: pool, Poll: 20 * time.Millisecond})
			waits := subscribe(t, fw, made.ID, tok.ID, 0)
			activity := metadata.NewActivity(metadata.ActivityConfig{DB: pool, Notify: true})
			written, err := activity.Append(t.Context(), made.ID, message("x"))
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, waits.woken)
			if err := tokens.Revoke(t.Context(), made.ID, tok.ID); err != nil {
				t.Fatal(err)
			}
			eventually(t, waits.ended)
			start := int64(0)
			for _, q := range []metadata.Query{{AfterSeq: &start}, {After: &written[0].ID}, {Since: time.Minute}, {}} {
				if _, head, err := activity.PageHead(t.Context(), made.ID, q); err != nil || head != 1 {
					t.Errorf("head %d, %v", head, err)
				}
				if _, head, err := activity.Position(t.Context(), made.ID, q); err != nil || head != 1 {
					t.Errorf("position: head %d, %v", head, err)
				}
			}
		})
	}
}

// listening is a watch that hears notifications and makes no rounds.
func listening(t *testing.T, pool *pgxpool.Pool) *metadata.FeedWatch {
	t.Helper()
	fw := run(t, metadata.FeedWatchConfig{DB: pool, Listen: metadata.DialLike(pool), Poll: never})
	eventually(t, fw.Listening)
	return fw
}

func TestNotificationsCarryOnlyCommits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fw := listening(t, w.pool)
	quiet := w.workspace(t, "quiet", nil)
	hears, other := subscribe(t, fw, w.ws, uuid.Nil, 0), subscribe(t, fw, quiet, uuid.Nil, 0)
	notifying := func(db metadata.DB) *metadata.Activity {
		return metadata.NewActivity(metadata.ActivityConfig{DB: db, Notify: true})
	}
	// A notification of our own follows each step: those before it have come then.
	fence := func() int32 {
		t.Helper()
		before := other.wakes.Load()
		w.exec(t, `SELECT pg_notify($1, $2)`, metadata.Channel, quiet.String())
		eventually(t, func() bool { return other.wakes.Load() > before })
		return hears.wakes.Load()
	}
	w.exec(t, `SELECT pg_notify($1, 'no workspace')`, metadata.Channel)
	tx := w.begin(t)
	if _, err := notifying(tx).Append(t.Context(), w.ws, message("rolled back")); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.append(t, message("by a writer that does not notify"))
	if n := fence(); n != 0 {
		t.Fatalf("%d notifications without a reason", n)
	}
	tx = w.begin(t)
	if _, err := notifying(tx).Append(t.Context(), w.ws, message("1"), message("2"), message("3")); err != nil {
		t.Fatal(err)
	}
	if n := fence(); n != 0 {
		t.Fatal("a notification came before its commit")
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := fence(); n != 1 {
		t.Fatalf("%d notifications of one transaction, want 1", n)
	}
	m := message("4")
	m.MessageID = ptr("m")
	for range 2 { // the second is stored already
		if _, _, err := notifying(w.pool).AppendMessage(t.Context(), w.ws, m); err != nil {
			t.Fatal(err)
		}
	}
	if n := fence(); n != 2 {
		t.Fatalf("%d notifications, want 2", n)
	}
	uploads := metadata.NewUploads(metadata.UploadsConfig{DB: w.pool, Announcer: notifying(w.pool)})
	if _, err := uploads.Insert(t.Context(), w.ws, []metadata.NewUpload{newUpload(t), newUpload(t)}); err != nil {
		t.Fatal(err)
	}
	if n := fence(); n != 3 {
		t.Errorf("%d notifications, want 3", n)
	}
}

func TestPublishWakesTheFeedsOfItsEntries(t *testing.T) {
	t.Parallel()
	fw := metadata.NewFeedWatch(metadata.FeedWatchConfig{})
	a, b := storage.WorkspaceID(uuid.New()), storage.WorkspaceID(uuid.New())
	wa, wb := subscribe(t, fw, a, uuid.Nil, 0), subscribe(t, fw, b, uuid.Nil, 0)
	metadata.Publishers{fw, &publisher{}}.Publish([]metadata.Entry{{WorkspaceID: a}, {WorkspaceID: a}})
	if got := []int32{wa.wakes.Load(), wb.wakes.Load()}; !slices.Equal(got, []int32{1, 0}) {
		t.Errorf("woken %v times, want [1 0]", got)
	}
}

// Waiters stay while neither rounds nor notifications are possible, and are woken
// when they are again.
func TestWatchOutlivesTheDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.append(t, message("1"))
	var down atomic.Bool
	down.Store(true)
	var warnings atomic.Int32
	dial := metadata.DialLike(w.pool)
	fw := run(t, metadata.FeedWatchConfig{
		DB: &breakable{w.pool, &down}, Poll: 10 * time.Millisecond,
		Listen: func(ctx context.Context) (*pgx.Conn, error) {
			if down.Load() {
				return nil, errDown
			}
			return dial(ctx)
		},
		Logger: slog.New(slog.NewTextHandler(counter{&warnings}, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	waits := subscribe(t, fw, w.ws, uuid.Nil, 0)
	eventually(t, func() bool { return warnings.Load() == 2 })
	if waits.woken() || waits.ended() || fw.Listening() {
		t.Error("something came through a database that is down")
	}
	down.Store(false)
	eventually(t, func() bool { return waits.woken() && fw.Listening() })
	if n := warnings.Load(); n != 2 || waits.ended() {
		t.Errorf("%d warnings, want one of each kind; ended %v", n, waits.ended())
	}
}

var errDown = errors.New("the database is down")

type breakable struct {
	metadata.DB
	down *atomic.Bool
}

func (b *breakable) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	if b.down.Load() {
		return brokenBatch{}
	}
	return b.DB.SendBatch(ctx, batch)
}

type brokenBatch struct{ pgx.BatchResults }

func (brokenBatch) Close() error { return errDown }

// counter counts the lines of a log.
type counter struct{ n *atomic.Int32 }

func (c counter) Write(p []byte) (int, error) {
	c.n.Add(1)
	return len(p), nil
}

func TestPosition(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	entries := w.append(t, message("1"), message("2"), message("3"))
	w.exec(t, `UPDATE activity_logs SET created_at = now() - interval '1 hour' WHERE seq = 1`)
	unknown := uuid.New()
	for name, test := range map[string]struct {
		q         metadata.Query
		seq, head int64
		err       error
	}{
		"head":            {metadata.Query{}, 3, 3, nil},
		"cursor":          {metadata.Query{After: &entries[1].ID}, 2, 3, nil},
		"window":          {metadata.Query{Since: time.Minute}, 1, 3, nil},
		"cursor wins":     {metadata.Query{After: &entries[2].ID, Since: time.Minute}, 3, 3, nil},
		"unknown":         {metadata.Query{After: &unknown}, 0, 0, metadata.ErrCursorNotFound},
		"filters are not": {metadata.Query{Type: "none", Since: 2 * time.Hour}, 0, 3, nil},
	} {
		seq, head, err := w.activity.Position(t.Context(), w.ws, test.q)
		if seq != test.seq || head != test.head || !errors.Is(err, test.err) {
			t.Errorf("%s: %d of %d, %v; want %d of %d, %v", name, seq, head, err, test.seq, test.head, test.err)
		}
	}
	empty := w.workspace(t, "empty", nil)
	for _, q := range []metadata.Query{{}, {Since: time.Minute}} {
		if seq, head, err := w.activity.Position(t.Context(), empty, q); seq != 0 || head != 0 || err != nil {
			t.Errorf("empty feed: %d of %d, %v", seq, head, err)
		}
	}
}

func TestPageAfterSeq(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.append(t, message("1"), metadata.NewEntry{ActivityType: "error"}, message("3"), message("4"))
	for seq, want := range [][]int64{{1, 3, 4}, {3, 4}, {3, 4}, {4}, {}, {}} {
		position := int64(seq)
		entries, head, err := w.activity.PageHead(t.Context(), w.ws, metadata.Query{AfterSeq: &position, Type: metadata.ActivityReceive})
		if diff := cmp.Diff(want, seqs(entries)); diff != "" || head != 4 || err != nil {
			t.Errorf("after %d: head %d, %v (-want +got):\n%s", seq, head, err, diff)
		}
	}
	w.exec(t, `DELETE FROM activity_logs WHERE seq <= 2`)
	for seq, want := range []error{metadata.ErrCursorNotFound, metadata.ErrCursorNotFound, nil, nil, nil} {
		position := int64(seq)
		if _, _, err := w.activity.PageHead(t.Context(), w.ws, metadata.Query{AfterSeq: &position}); !errors.Is(err, want) {
			t.Errorf("after %d, with 1 and 2 pruned: %v, want %v", seq, err, want)
		}
	}
	one := int64(2)
	entries, _, err := w.activity.PageHead(t.Context(), w.ws, metadata.Query{AfterSeq: &one, Bytes: 1})
	if err != nil || len(entries) != 2 {
		t.Errorf("entries without bodies are cut by bytes: %d, %v", len(entries), err)
	}
}

// What a stream asks goes through indexes, however long the feed.
func TestStreamsGoThroughIndexes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.append(t, message("so that there is a head"))
	w.exec(t, `DELETE FROM activity_logs`)
	w.fill(t)
	head, old := int64(100_000), int64(99_990)
	for name, test := range map[string]struct {
		ask     func(a *metadata.Activity) error
		buffers int
	}{
		"at the head": {func(a *metadata.Activity) error {
			_, _, err := a.PageHead(t.Context(), w.ws, metadata.Query{Type: metadata.ActivityReceive, AfterSeq: &head})
			return err
		}, 20},
		"behind": {func(a *metadata.Activity) error {
			_, _, err := a.PageHead(t.Context(), w.ws, metadata.Query{Type: metadata.ActivityReceive, AfterSeq: &old})
			return err
		}, 40},
		"wait": {func(a *metadata.Activity) error {
			_, _, err := a.PageHead(t.Context(), w.ws, metadata.Query{Type: metadata.ActivityReceive, Since: time.Minute})
			return err
		}, 20},
	} {
		t.Run(name, func(t *testing.T) {
			recorded := &recorder{DB: w.pool}
			if err := test.ask(metadata.NewActivity(metadata.ActivityConfig{DB: recorded})); err != nil {
				t.Fatal(err)
			}
			recorded.explain(t, w, func(t *testing.T, p plan) {
				p.scans(t)
				if p.Hit+p.Read > test.buffers {
					t.Errorf("touched %d buffers, want at most %d", p.Hit+p.Read, test.buffers)
				}
			})
		})
	}
}

// Waiters of many feeds subscribe, are woken and leave at the same time.
func TestSubscribeConcurrently(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fw := run(t, metadata.FeedWatchConfig{DB: w.pool, Poll: time.Millisecond})
	feeds := []storage.WorkspaceID{w.ws, w.workspace(t, "a", nil), w.workspace(t, "b", nil)}
	done := make(chan error, 16)
	for i := range cap(done) {
		go func() {
			done <- func() error {
				for range 50 {
					woken := &waiter{}
					ws := feeds[i%len(feeds)]
					sub := fw.Subscribe(ws, uuid.Nil, woken)
					sub.Advance(0)
					fw.Publish([]metadata.Entry{{WorkspaceID: ws}})
					sub.Close()
					if !woken.woken() {
						return fmt.Errorf("waiter of feed %d was not woken", i%len(feeds))
					}
				}
				return nil
			}()
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
