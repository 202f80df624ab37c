package metadata_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

func TestAckSeqNeverDecreases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 9 {
		w.append(t, message("x"))
	}
	for _, step := range [][2]int64{{5, 5}, {3, 5}, {9, 9}, {0, 9}} {
		if got, err := w.activity.AckSeq(t.Context(), w.ws, step[0]); err != nil || got != step[1] {
			t.Errorf("AckSeq(%d) = %d, %v; want %d", step[0], got, err, step[1])
		}
	}
	if _, err := w.activity.AckSeq(t.Context(), storage.WorkspaceID(uuid.New()), 1); !errors.Is(err, storage.ErrWorkspaceNotFound) {
		t.Errorf("unknown workspace: %v", err)
	}
}

// What is written after a workspace acked a number beyond its feed's head is not
// consumed, and is not pruned as if it were.
func TestAckBeyondTheHeadDoesNotCoverWhatComesLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if got, err := w.activity.AckSeq(t.Context(), w.ws, 1000); err != nil || got != 0 {
		t.Errorf("empty feed: %d, %v; want 0", got, err)
	}
	w.append(t, message("1"), message("2"))
	if got, err := w.activity.AckSeq(t.Context(), w.ws, 1<<62); err != nil || got != 2 {
		t.Errorf("two entries: %d, %v; want 2", got, err)
	}
	w.append(t, message("3"))
	w.exec(t, `UPDATE activity_logs SET created_at = now() - interval '8 days'`)
	if n, err := w.activity.Prune(t.Context(), metadata.Retention{}, 10); err != nil || n != 1 {
		t.Errorf("pruned %d, %v; want the one behind the reader's cursor", n, err)
	}
	if got := seqs(w.page(t, metadata.Query{})); !slices.Equal(got, []int64{3, 2}) {
		t.Errorf("left = %v, want [3 2]", got)
	}
	if got, err := w.activity.AckSeq(t.Context(), w.ws, 3); err != nil || got != 3 {
		t.Errorf("the third: %d, %v", got, err)
	}
}

// A workspace without a row for its feed yet.
func TestAckWithoutAFeed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(t, `DELETE FROM activity_feeds`)
	if got, err := w.activity.AckSeq(t.Context(), w.ws, 7); err != nil || got != 0 {
		t.Errorf("AckSeq = %d, %v; want 0", got, err)
	}
}
