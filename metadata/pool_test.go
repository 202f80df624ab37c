package metadata_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

func TestOpenErrorsNeverShowThePassword(t *testing.T) {
	t.Parallel()
	const secret = "hunter2%zz"
	for name, test := range map[string]string{
		"bad escape":  "postgres://u:" + secret + "@localhost/db",
		"bad port":    "postgres://u:hunter2@localhost:port/db",
		"bad words":   "host=localhost password=hunter2 port=x",
		"unreachable": "postgres://u:hunter2@127.0.0.1:1/db",
	} {
		pool, err := metadata.Open(t.Context(), metadata.PoolConfig{URL: test})
		if err == nil {
			pool.Close()
			t.Errorf("%s: no error", name)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows the password", name)
		}
		if got, want := errors.Is(err, metadata.ErrDatabaseURL), name != "unreachable"; got != want {
			t.Errorf("%s: %v, ErrDatabaseURL %v", name, err, got)
		}
	}
}

func TestOpenSetsNameAndSize(t *testing.T) {
	t.Parallel()
	pool, err := metadata.Open(t.Context(), metadata.PoolConfig{URL: devstack.EmptyDatabase(t), MaxConns: 3, ApplicationName: "the name"})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if got := query[string](t, pool, `SHOW application_name`); got != "the name" {
		t.Errorf("application_name = %q", got)
	}
	if got := pool.Config().MaxConns; got != 3 {
		t.Errorf("MaxConns = %d", got)
	}
	if got := pool.Config().ConnConfig.ConnectTimeout; got != 10*time.Second {
		t.Errorf("connections may take %v", got)
	}
}

// A server that accepts and then says nothing ends the start, it does not hang it.
func TestOpenEndsWhenTheServerDoesNotAnswer(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, err = metadata.Open(t.Context(), metadata.PoolConfig{URL: "postgres://u@" + l.Addr().String() + "/x?connect_timeout=2&sslmode=disable"})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want context.DeadlineExceeded", err)
	}
}

// A caller that gives up while it waits for the feed's lock stops waiting on
// the server too.
func TestCancelledWriterStopsWaitingOnTheServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tx := w.begin(t)
	if _, err := inTx(tx).Append(t.Context(), w.ws, message("holds the lock")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := w.activity.Append(ctx, w.ws, message("gives up"))
		done <- err
	}()
	w.waitForLockWaiters(t, 1)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	eventually(t, func() bool {
		return query[int](t, w.pool, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 0
	})
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.append(t, message("next"))[0].Seq; got != 2 {
		t.Errorf("next seq = %d, want 2", got)
	}
}

// A pooler in transaction mode keeps no prepared statements: the URL then asks
// for another way of sending them, which every statement must bear.
func TestStatementsWorkWithoutPreparing(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"exec", "cache_describe", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			u, err := url.Parse(devstack.Database(t))
			if err != nil {
				t.Fatal(err)
			}
			q := u.Query()
			q.Set("default_query_exec_mode", mode)
			u.RawQuery = q.Encode()
			pool, err := metadata.Open(t.Context(), metadata.PoolConfig{URL: u.String()})
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			workspaces := metadata.NewWorkspaces(metadata.WorkspacesConfig{DB: pool})
			activity := metadata.NewActivity(metadata.ActivityConfig{DB: pool})
			uploads := metadata.NewUploads(metadata.UploadsConfig{DB: pool, Announcer: activity})
			tokens := metadata.NewTokens(pool)

			made, secret, err := workspaces.Create(t.Context(), metadata.NewWorkspace{Name: "n"}, metadata.TokenAPI)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tokens.Resolve(t.Context(), secret); err != nil {
				t.Error(err)
			}
			if _, err := workspaces.Register(t.Context(), registration(made.ID)); err != nil {
				t.Error(err)
			}
			if _, err := workspaces.Heartbeat(t.Context(), metadata.Heartbeat{ID: made.ID, ActiveTasks: ptr(1)}); err != nil {
				t.Error(err)
			}
			object, inline := newUpload(t), newUpload(t)
			inline.ObjectKey, inline.Content = "", []byte("hello")
			records, err := uploads.Insert(t.Context(), made.ID, []metadata.NewUpload{object, inline})
			if err != nil {
				t.Fatal(err)
			}
			got, err := uploads.Get(t.Context(), made.ID, inline.FileID)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(records[1], got); diff != "" {
				t.Errorf("inserted and read differ:\n%s", diff)
			}
			if b, err := uploads.ReadInline(t.Context(), made.ID, inline.FileID, 1, 3); err != nil || string(b) != "ell" {
				t.Errorf("inline: %q, %v", b, err)
			}
			scope := metadata.MoveScope{From: storage.PlacementInline, MaxBytes: 100}
			if rows, _, err := uploads.CountMovable(t.Context(), scope); err != nil || rows != 1 {
				t.Errorf("%d rows to move, %v", rows, err)
			}
			next, err := uploads.NextMovable(t.Context(), scope, metadata.UploadID{}, metadata.Take{Limit: 9, Content: 9})
			if err != nil || len(next) != 1 || string(next[0].Content) != "hello" {
				t.Fatalf("to move: %+v, %v", next, err)
			}
			id := next[0].UploadID
			flips, err := uploads.MoveToObjects(t.Context(),
				metadata.ObjectMove{UploadID: id, Key: "k", SHA256: inline.SHA256}, metadata.ObjectMove{Key: `odd {",} \\ NULL`})
			if err != nil || flips[id] != metadata.FlipMoved {
				t.Errorf("to objects: %v, %v", flips, err)
			}
			if moved, err := uploads.MoveToRow(t.Context(), id, "k", inline.SHA256, []byte("hello")); err != nil || !moved {
				t.Errorf("to its row: %v, %v", moved, err)
			}
			if err := uploads.Ack(t.Context(), made.ID, object.FileID); err != nil {
				t.Error(err)
			}
			m := message("x")
			m.MessageID, m.SourceID, m.DurationMS = ptr("m"), ptr(uuid.UUID(made.ID)), ptr(3)
			for range 2 {
				if _, _, err := activity.AppendMessage(t.Context(), made.ID, m); err != nil {
					t.Error(err)
				}
			}
			all, err := activity.Page(t.Context(), made.ID, metadata.Query{Since: time.Hour, PeerInfo: true})
			if err != nil || len(all) != 3 || all[0].PeerName != "n" {
				t.Fatalf("page: %d entries, %v", len(all), err)
			}
			if rest, err := activity.Page(t.Context(), made.ID, metadata.Query{After: &all[2].ID, Type: "a2a_receive"}); err != nil || len(rest) != 2 {
				t.Errorf("after: %d entries, %v", len(rest), err)
			}
			if _, _, err := activity.History(t.Context(), made.ID, nil, 5); err != nil {
				t.Error(err)
			}
			if _, err := activity.AckSeq(t.Context(), made.ID, 1); err != nil {
				t.Error(err)
			}
			if _, err := activity.Prune(t.Context(), metadata.Retention{}, 5); err != nil {
				t.Error(err)
			}
			if n, err := uploads.MarkDue(t.Context(), 0, 5); err != nil || n != 1 {
				t.Errorf("MarkDue = %d, %v", n, err)
			}
			if got, err := uploads.SweepDue(t.Context(), 5, keep); err != nil || got.Acked != 1 {
				t.Errorf("SweepDue = %+v, %v", got, err)
			}
			if missing, err := uploads.Missing(t.Context(), []metadata.UploadID{{Workspace: made.ID, File: object.FileID}}); err != nil || len(missing) != 1 {
				t.Errorf("missing %v, %v", missing, err)
			}
			if _, err := workspaces.Remove(t.Context(), made.ID, metadata.RemoveOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
}
