//go:build pgbouncer

package pooler_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/servertest"
	"github.com/molecule-ai/pendinguploads/storage"
)

func TestMain(m *testing.M) { servertest.Main(m, func() error { return goleak.Find() }) }

// sessions is how many sessions of PostgreSQL all replicas share: fewer than one
// of them opens connections.
const sessions = 3

// patience bounds every wait. The feed's own poll comes every 4 s.
const patience = time.Minute

// pooledStack is a stack all of whose commands go through the pooler.
func pooledStack(t *testing.T, env ...string) *servertest.Stack {
	t.Helper()
	s := servertest.NewStack(t, env...)
	u, err := url.Parse(devstack.PgBouncer(t, s.Database, sessions))
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("default_query_exec_mode", "exec")
	u.RawQuery = q.Encode()
	s.Env = append(s.Env, "DATABASE_URL="+u.String())
	return s
}

// The tests below prove nothing if a client keeps its session to itself.
func TestClientsShareSessions(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	pooled := devstack.PgBouncer(t, devstack.EmptyDatabase(t), 1)
	pids := map[int]bool{}
	for range 3 {
		conn, err := pgx.Connect(ctx, pooled)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
		var pid int
		if err := conn.QueryRow(ctx, `SELECT pg_backend_pid()`, pgx.QueryExecModeExec).Scan(&pid); err != nil {
			t.Fatal(err)
		}
		pids[pid] = true
	}
	if len(pids) != 1 {
		t.Errorf("three open connections have %d sessions, want 1", len(pids))
	}
}

func TestMainJobBehindAPooler(t *testing.T) {
	t.Parallel()
	// With "on" LISTEN seems to succeed, and what it should bring does not come: the
	// poll heals that.
	for _, notify := range []string{"off", "on"} {
		t.Run("FEED_NOTIFY="+notify, func(t *testing.T) {
			t.Parallel()
			stack := pooledStack(t, "FEED_NOTIFY="+notify, "ACK_RETENTION=1s", "SWEEP_INTERVAL=1s")
			here, there := stack.Serve(t), stack.Serve(t)
			id, token := stack.Workspace(t, "laptop")
			user := here.Client(t, id, servertest.AdminToken)
			laptop := there.Client(t, id, token)

			rows := follow(t, laptop, client.TransportAuto)
			polled := follow(t, there.Client(t, id, token), client.TransportLongPoll)
			want := map[string][]byte{}
			upload := func(sizes ...int) []wire.UploadedFile {
				files := make([]client.File, len(sizes))
				for i, n := range sizes {
					content := make([]byte, n)
					_, _ = rand.Read(content)
					files[i] = client.File{Name: fmt.Sprintf("file-%d.bin", i), Size: int64(n), Open: func() (io.ReadCloser, error) {
						return io.NopCloser(bytes.NewReader(content)), nil
					}}
				}
				staged, err := user.Upload(t.Context(), files, client.UploadOptions{})
				if err != nil {
					t.Fatal(err)
				}
				for i, f := range staged {
					content, err := files[i].Open()
					if err != nil {
						t.Fatal(err)
					}
					want[f.URI], _ = io.ReadAll(content)
				}
				return staged
			}

			// The first row shows that both wait on the other replica.
			upload(1)
			first := rows.next(t)
			if again := polled.next(t); again.ID != first.ID {
				t.Errorf("the long poll begins with row %s, the stream with %s", again.ID, first.ID)
			}
			staged := upload(6<<20, 4<<10) // one in parts, one not
			if err := user.Send(t.Context(), client.Message{Text: "look", Files: staged}); err != nil {
				t.Fatal(err)
			}
			got := []wire.Activity{first, rows.next(t), rows.next(t), rows.next(t)}
			for i, row := range got[1:] {
				if other := polled.next(t); other.ID != row.ID {
					t.Errorf("row %d is %s in the stream and %s in the long poll", i, row.ID, other.ID)
				}
			}
			if last := got[3]; last.Method == nil || *last.Method != wire.MethodMessageSend {
				t.Errorf("the last row is %+v, want the message", last)
			}
			crowd(t, user, 8*sessions)
			for uri, content := range want {
				receive(t, laptop, uri, content)
			}
			swept(t, stack)
			if notify == "on" && !strings.Contains(there.Log(), "notifications from the database come") {
				t.Errorf("the replica does not listen:\n%s", there.Log())
			}
		})
	}
}

// feed is the rows that a client follows.
type feed chan wire.Activity

func follow(t *testing.T, c *client.Client, transport client.Transport) feed {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	rows := make(feed, 100)
	var following sync.WaitGroup
	following.Go(func() {
		for row, err := range c.Follow(ctx, client.FollowConfig{Transport: transport}) {
			if err != nil {
				if ctx.Err() == nil {
					t.Errorf("follow: %v", err)
				}
				return
			}
			rows <- row
		}
	})
	t.Cleanup(func() {
		stop()
		following.Wait()
	})
	return rows
}

func (f feed) next(t *testing.T) wire.Activity {
	t.Helper()
	select {
	case row := <-f:
		return row
	case <-time.After(patience):
		t.Fatal("no row comes")
		return wire.Activity{}
	}
}

// crowd makes n calls at the same time, more than there are sessions.
func crowd(t *testing.T, c *client.Client, n int) {
	t.Helper()
	var calls sync.WaitGroup
	for range n {
		calls.Go(func() {
			if _, err := c.Activity(t.Context(), client.Query{Limit: 10}); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
}

// into is memory as a fetch's target.
type into struct{ bytes.Buffer }

func (b *into) Restart() error {
	b.Reset()
	return nil
}

// receive fetches and acknowledges a file.
func receive(t *testing.T, c *client.Client, uri string, content []byte) {
	t.Helper()
	file, err := storage.ParseFileID(uri[strings.LastIndexByte(uri, '/')+1:])
	if err != nil {
		t.Fatal(err)
	}
	var got into
	fetched, err := c.Fetch(t.Context(), file, &got, client.FetchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), content) {
		t.Errorf("fetched %d bytes that differ from the %d that were uploaded", got.Len(), len(content))
	}
	if _, err := c.Ack(t.Context(), file, &fetched.Received); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Fetch(t.Context(), file, &got, client.FetchOptions{}); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("fetch after the ack: got error %v, want %v", err, client.ErrNotFound)
	}
}

const (
	countUploads  = `SELECT count(*) FROM pending_uploads`
	countSessions = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()`
)

// swept waits until nothing is left of the files. The replicas never have more
// sessions than the pooler lends.
func swept(t *testing.T, stack *servertest.Stack) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), stack.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	late := time.NewTimer(patience)
	defer late.Stop()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		var left, open int
		if err := conn.QueryRow(t.Context(), countUploads).Scan(&left); err != nil {
			t.Fatal(err)
		}
		if err := conn.QueryRow(t.Context(), countSessions).Scan(&open); err != nil {
			t.Fatal(err)
		}
		if open > sessions {
			t.Fatalf("%d sessions, the pooler lends %d", open, sessions)
		}
		objects, err := stack.S3.Client().ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(stack.S3.Bucket)})
		if err != nil {
			t.Fatal(err)
		}
		if left == 0 && len(objects.Contents) == 0 {
			return
		}
		select {
		case <-look.C:
		case <-late.C:
			t.Fatalf("not swept: %d rows, %d objects", left, len(objects.Contents))
		}
	}
}
