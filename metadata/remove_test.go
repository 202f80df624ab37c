package metadata_test

import (
	"errors"
	"testing"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// A purge that meets a writer of the feed waits for it, instead of each waiting
// for what the other has.
func TestPurgeBesideAFeedWriterTakesItsTurn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.append(t, message("1")) // the feed has its row
	holder := w.begin(t)
	if _, err := holder.Exec(t.Context(), `SELECT 1 FROM activity_feeds FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	appended := make(chan error, 1)
	go func() {
		_, err := w.activity.Append(t.Context(), w.ws, message("2"))
		appended <- err
	}()
	w.waitForLockWaiters(t, 1) // for the feed
	purged := make(chan error, 1)
	go func() {
		_, err := w.workspaces.Remove(t.Context(), w.ws, metadata.RemoveOptions{Purge: true})
		purged <- err
	}()
	w.waitForLockWaiters(t, 2)
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-appended; err != nil {
		t.Errorf("append: %v", err)
	}
	if err := <-purged; err != nil {
		t.Errorf("purge: %v", err)
	}
	if _, err := w.activity.Append(t.Context(), w.ws, message("3")); !errors.Is(err, storage.ErrWorkspaceNotFound) {
		t.Errorf("append after the purge: %v, want ErrWorkspaceNotFound", err)
	}
}
