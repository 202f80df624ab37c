package staging_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

// opened counts how often objects are opened, and has a say in it.
type opened struct {
	*s3blob.Store
	before func(ctx context.Context, key string) error
	found  chan struct{} // one for each object that was looked at

	mu    *sync.Mutex
	times map[string]int
}

func (o opened) Head(ctx context.Context, key string) (blob.Info, error) {
	info, err := o.Store.Head(ctx, key)
	o.found <- struct{}{}
	return info, err
}

func (o opened) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	o.mu.Lock()
	o.times[key]++
	o.mu.Unlock()
	if o.before != nil {
		if err := o.before(ctx, key); err != nil {
			return nil, err
		}
	}
	return o.Store.Open(ctx, key, offset, length)
}

// openCounted is a store whose objects are counted as they are opened.
func openCounted(t *testing.T, server devstack.S3, rows staging.Rows, before func(ctx context.Context, key string) error) (direct, opened) {
	t.Helper()
	o := opened{before: before, found: make(chan struct{}, 100), mu: &sync.Mutex{}, times: make(map[string]int)}
	return openDirect(t, server, rows, func(c *staging.Config) {
		o.Store = c.Objects.(*s3blob.Store)
		c.Objects = o
	}), o
}

// without puts objects without their SHA-256, so that commits have to read them.
func (d direct) without(t *testing.T, ws storage.WorkspaceID, files []storage.DirectFile, contents ...string) (keys []string) {
	t.Helper()
	for i, content := range contents {
		key := prefix + "/" + ws.String() + "/" + files[i].FileID.String()
		if err := d.objects.Put(t.Context(), key, strings.NewReader(content), blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	return keys
}

// A commit goes on where the one before ended, and what was wrong is not read
// again as long as it is the same object.
func TestDirectCommitReadsAnObjectOnce(t *testing.T) {
	t.Parallel()
	devstack.EachS3User(t, func(t *testing.T, server devstack.S3) {
		var failing string
		d, o := openCounted(t, server, newRows(t), func(_ context.Context, key string) error {
			if key == failing {
				return blob.ErrNotFound
			}
			return nil
		})
		ws := workspace(t)
		_, files := d.reserve(t, ws, []byte("first"), []byte("second"), []byte("third"))
		keys := d.without(t, ws, files, "first", "SECOND", "third")
		commit := func() error {
			_, err := d.CommitDirect(t.Context(), ws, files)
			return err
		}
		want := func(step string, times ...int) {
			t.Helper()
			for i, key := range keys {
				if o.times[key] != times[i] {
					t.Errorf("%s: file %d was read %d times, want %d", step, i, o.times[key], times[i])
				}
			}
		}
		failing = keys[2]
		wantFileError(t, commit(), 1, storage.ErrMismatch)
		want("the first time", 1, 1, 1)
		failing = ""
		wantFileError(t, commit(), 1, storage.ErrMismatch)
		want("the one that failed", 1, 1, 2)
		wantFileError(t, commit(), 1, storage.ErrMismatch)
		want("again", 1, 1, 2)
		d.without(t, ws, files[1:2], "second")
		if err := commit(); err != nil {
			t.Error(err)
		}
		want("with another object", 1, 2, 2)
	})
}

// One of several commits reads, and goes away; one of those that wait reads in its
// place, for all.
func TestDirectCommitsAtTheSameTimeReadOnce(t *testing.T) {
	t.Parallel()
	reading := make(chan struct{})
	var once sync.Once
	d, o := openCounted(t, devstack.MinIOUser(t), newRows(t), func(ctx context.Context, _ string) (err error) {
		once.Do(func() {
			close(reading)
			<-ctx.Done()
			err = context.Cause(ctx)
		})
		return err
	})
	ws := workspace(t)
	_, files := d.reserve(t, ws, []byte("hello"))
	keys := d.without(t, ws, files, "hello")
	const others = 7
	outcomes := make(chan error, others)
	commit := func(ctx context.Context) {
		_, err := d.CommitDirect(ctx, ws, files)
		outcomes <- err
	}
	first, goAway := context.WithCancel(t.Context())
	defer goAway()
	go commit(first)
	<-reading
	<-o.found
	for range others {
		go commit(t.Context())
	}
	for range others {
		<-o.found
	}
	goAway()
	if err := <-outcomes; !errors.Is(err, context.Canceled) {
		t.Errorf("who went away: %v", err)
	}
	for range others {
		if err := <-outcomes; err != nil {
			t.Error(err)
		}
	}
	if n := o.times[keys[0]]; n != 2 {
		t.Errorf("read %d times, want 2", n)
	}
}
