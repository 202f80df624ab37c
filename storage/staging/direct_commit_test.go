package staging_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

func TestDirectCommitComparesWhatIsThere(t *testing.T) {
	t.Parallel()
	devstack.EachS3User(t, func(t *testing.T, server devstack.S3) {
		d := openDirect(t, server, newRows(t))
		ws := workspace(t)
		puts, files := d.reserve(t, ws, []byte("first"), []byte("second"))
		key := prefix + "/" + ws.String() + "/" + files[1].FileID.String()
		// beside puts an object past the reservation, without its SHA-256.
		beside := func(content string) {
			t.Helper()
			if err := d.objects.Put(t.Context(), key, strings.NewReader(content), blob.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		commit := func() error {
			_, err := d.CommitDirect(t.Context(), ws, files)
			return err
		}
		wantFileError(t, commit(), 0, storage.ErrNotUploaded)
		mustSend(t, puts[0], []byte("first"))
		wantFileError(t, commit(), 1, storage.ErrNotUploaded)
		beside("SECOND")
		wantFileError(t, commit(), 1, storage.ErrMismatch)
		beside("secon")
		wantFileError(t, commit(), 1, storage.ErrMismatch)
		if _, err := d.Stat(t.Context(), ws, files[0].FileID); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("a part of the reservation was committed: %v", err)
		}
		beside("second")
		if err := commit(); err != nil {
			t.Errorf("what is there is right: %v", err)
		}
		// Another workspace cannot commit them.
		if _, err := d.CommitDirect(t.Context(), workspace(t), files); !errors.Is(err, storage.ErrNotUploaded) {
			t.Errorf("files of another workspace: %v", err)
		}
	})
}

// gated holds insertions up until all of those expected have come.
type gated struct {
	*metadata.Uploads
	arrived chan<- struct{}
	open    <-chan struct{}
}

func (g gated) Insert(ctx context.Context, ws storage.WorkspaceID, uploads []metadata.NewUpload) ([]storage.Record, error) {
	g.arrived <- struct{}{}
	<-g.open
	return g.Uploads.Insert(ctx, ws, uploads)
}

// Two replicas commit the same reservation; both have found that nothing is
// committed and everything is there, and then go on together.
func TestDirectCommitsAtTheSameTimeAreOne(t *testing.T) {
	t.Parallel()
	server := devstack.MinIOUser(t)
	db := openDB(t)
	rows := metadata.NewUploads(metadata.UploadsConfig{DB: db})
	arrived, open := make(chan struct{}), make(chan struct{})
	ws := workspace(t)
	const commits = 4
	var replicas []direct
	for range commits {
		replicas = append(replicas, openDirect(t, server, gated{rows, arrived, open}))
	}
	puts, files := replicas[0].reserve(t, ws, []byte("first"), []byte("second"))
	mustSend(t, puts[0], []byte("first"))
	mustSend(t, puts[1], []byte("second"))

	type outcome struct {
		records []storage.Record
		err     error
	}
	outcomes := make(chan outcome)
	for _, r := range replicas {
		go func() {
			records, err := r.CommitDirect(context.WithoutCancel(t.Context()), ws, files)
			outcomes <- outcome{records, err}
		}()
	}
	for range commits {
		<-arrived
	}
	close(open)
	var want []storage.Record
	for range commits {
		got := <-outcomes
		if got.err != nil || len(got.records) != 2 {
			t.Errorf("%d records, %v", len(got.records), got.err)
			continue
		}
		for i := range got.records {
			got.records[i].Content.Opener, got.records[i].Content.Signer = nil, nil
		}
		if want == nil {
			want = got.records
		}
		if diff := cmp.Diff(want, got.records); diff != "" {
			t.Errorf("the answers differ: %s", diff)
		}
	}
	var n int
	if err := db.QueryRow(t.Context(), "SELECT count(*) FROM pending_uploads").Scan(&n); err != nil || n != 2 {
		t.Errorf("%d rows, %v", n, err)
	}
}

// preceded has others do something right before its insertions.
type preceded struct {
	*metadata.Uploads
	by func()
}

func (p preceded) Insert(ctx context.Context, ws storage.WorkspaceID, uploads []metadata.NewUpload) ([]storage.Record, error) {
	p.by()
	return p.Uploads.Insert(ctx, ws, uploads)
}

// A commit is repeated while the first is under way; by the time that it gets to
// the rows, the file was acked and another one has taken its room.
func TestDirectCommitIsRepeatedWithoutRoom(t *testing.T) {
	t.Parallel()
	server := devstack.MinIOUser(t)
	rows := metadata.NewUploads(metadata.UploadsConfig{DB: openDB(t), Quota: storage.Quota{Files: 1}})
	first := openDirect(t, server, rows)
	ws := workspace(t)
	puts, files := first.reserve(t, ws, []byte("first"))
	mustSend(t, puts[0], []byte("first"))
	puts, next := first.reserve(t, ws, []byte("next"))
	mustSend(t, puts[0], []byte("next"))
	second := openDirect(t, server, preceded{rows, func() {
		if _, err := first.CommitDirect(t.Context(), ws, files); err != nil {
			t.Error(err)
		}
		if err := first.Ack(t.Context(), ws, files[0].FileID); err != nil {
			t.Error(err)
		}
		if _, err := first.CommitDirect(t.Context(), ws, next); err != nil {
			t.Error(err)
		}
	}})
	if got, err := second.CommitDirect(t.Context(), ws, files); err != nil || len(got) != 1 || got[0].FileID != files[0].FileID {
		t.Errorf("%d records, %v", len(got), err)
	}
	puts, over := first.reserve(t, ws, []byte("over"))
	mustSend(t, puts[0], []byte("over"))
	if _, err := first.CommitDirect(t.Context(), ws, over); !errors.Is(err, storage.ErrQuota) {
		t.Errorf("%v, want ErrQuota", err)
	}
}

func TestDirectCommitCanBeRepeated(t *testing.T) {
	t.Parallel()
	server := devstack.MinIOUser(t)
	rows := newRows(t)
	ws := workspace(t)
	d := openDirect(t, server, rows)
	puts, files := d.reserve(t, ws, []byte("first"), []byte("second"))
	mustSend(t, puts[0], []byte("first"))
	mustSend(t, puts[1], []byte("second"))

	// The connection breaks at the commit, which did not take effect: the objects
	// stay, and the next call does it. Then one whose answer alone is lost.
	if _, err := openDirect(t, server, lossy{rows, false}).CommitDirect(t.Context(), ws, files); !errors.Is(err, metadata.ErrCommitUnknown) {
		t.Fatalf("%v, want ErrCommitUnknown", err)
	}
	first, err := openDirect(t, server, lossy{rows, true}).CommitDirect(t.Context(), ws, files)
	if err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"again", "after an ack"} {
		got, err := d.CommitDirect(t.Context(), ws, files)
		if err != nil || len(got) != 2 || got[1].FileID != first[1].FileID || !got[0].CreatedAt.Equal(first[0].CreatedAt) {
			t.Errorf("%s: %+v, %v", when, got, err)
		}
		if err := d.Ack(t.Context(), ws, files[0].FileID); err != nil {
			t.Error(err)
		}
	}
	// One of the two is swept; the other waits.
	if swept, err := d.Sweep(t.Context(), -time.Second, 10); err != nil || swept.Acked != 1 {
		t.Fatal(swept, err)
	}
	if _, err := d.CommitDirect(t.Context(), ws, files); !errors.Is(err, storage.ErrCommitted) {
		t.Errorf("after a sweep: %v, want ErrCommitted", err)
	}
	if _, err := d.Get(t.Context(), ws, files[1].FileID); err != nil {
		t.Errorf("the other file: %v", err)
	}
}

func TestWhatIsNotCommittedIsAnOrphan(t *testing.T) {
	t.Parallel()
	devstack.EachS3User(t, func(t *testing.T, server devstack.S3) {
		d := openDirect(t, server, newRows(t))
		ws := workspace(t)
		puts, files := d.reserve(t, ws, []byte("committed"))
		lost, lostFiles := d.reserve(t, ws, []byte("lost"))
		mustSend(t, puts[0], []byte("committed"))
		mustSend(t, lost[0], []byte("lost"))
		if _, err := d.CommitDirect(t.Context(), ws, files); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			later time.Duration
			swept int
			left  int
		}{{0, 0, 2}, {59 * time.Minute, 0, 2}, {61 * time.Minute, 1, 1}, {3 * time.Hour, 0, 1}} {
			d.skew.Store(int64(step.later))
			if swept, err := d.SweepOrphans(t.Context(), time.Hour); err != nil || swept.Objects != step.swept {
				t.Errorf("%v later: swept %+v, %v", step.later, swept, err)
			}
			if keys := keysOf(t, d.objects); len(keys) != step.left {
				t.Errorf("%v later: objects %v", step.later, keys)
			}
		}
		if _, err := d.CommitDirect(t.Context(), ws, lostFiles); !errors.Is(err, storage.ErrReservationExpired) {
			t.Errorf("commit of what was swept: %v, want ErrReservationExpired", err)
		}
	})
}

// The commit begins in the reservation's last second and takes all the time it
// may; an orphan sweep with the shortest grace period there is looks at every
// stage of it.
func TestOrphanSweepsLeaveACommitAlone(t *testing.T) {
	t.Parallel()
	const maxUpload, grace = 10 * time.Minute, 10*time.Minute + 21*time.Second
	arrived, open := make(chan struct{}), make(chan struct{})
	d := openDirect(t, devstack.MinIOUser(t), gated{newRows(t), arrived, open}, func(c *staging.Config) { c.MaxUploadTime = maxUpload })
	ws := workspace(t)
	puts, files := d.reserve(t, ws, []byte("hello"))
	mustSend(t, puts[0], []byte("hello"))
	sweep := func(when string) {
		t.Helper()
		if swept, err := d.SweepOrphans(t.Context(), grace); err != nil || swept.Total() != 0 {
			t.Errorf("%s: swept %+v, %v", when, swept, err)
		}
	}
	d.skew.Store(int64(maxUpload - 2*time.Second))
	sweep("before the commit")
	done := make(chan error)
	go func() {
		_, err := d.CommitDirect(context.WithoutCancel(t.Context()), ws, files)
		done <- err
	}()
	<-arrived
	d.skew.Add(int64(15 * time.Second))
	sweep("while the rows are inserted")
	close(open)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	d.skew.Add(int64(time.Hour))
	sweep("afterwards")
	if r, err := d.Get(t.Context(), ws, files[0].FileID); err != nil || string(read(t, r)) != "hello" {
		t.Errorf("the content: %v", err)
	}
}

// suspending sleeps for a while, as the host does, when it is asked about an
// object. The timers sleep too.
type suspending struct {
	*s3blob.Store
	sleep func()
}

func (s suspending) Head(ctx context.Context, key string) (blob.Info, error) {
	info, err := s.Store.Head(ctx, key)
	s.sleep()
	return info, err
}

func TestADirectCommitThatWasSuspendedStagesNothing(t *testing.T) {
	t.Parallel()
	rows := newRows(t)
	server := devstack.MinIOUser(t)
	ws := workspace(t)
	var d direct
	d = openDirect(t, server, rows, func(c *staging.Config) {
		c.Objects = suspending{c.Objects.(*s3blob.Store), func() { d.skew.Add(int64(2 * time.Hour)) }}
	})
	puts, files := d.reserve(t, ws, []byte("hello"))
	mustSend(t, puts[0], []byte("hello"))
	if _, err := d.CommitDirect(t.Context(), ws, files); !errors.Is(err, storage.ErrReservationExpired) {
		t.Errorf("%v, want ErrReservationExpired", err)
	}
	if missing, err := rows.Missing(t.Context(), []metadata.UploadID{{Workspace: ws, File: files[0].FileID}}); err != nil || len(missing) != 1 {
		t.Errorf("a row was committed, %v", err)
	}
}
