package metadata_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/molecule-ai/pendinguploads/metadata"
)

func TestPageFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	peer, self := uuid.UUID(w.workspace(t, "peer", nil)), uuid.UUID(w.ws)
	w.exec(t, `UPDATE workspaces SET role = 'critic' WHERE id = $1`, peer)
	entries := w.append(t,
		metadata.NewEntry{ActivityType: "a2a_receive", TargetID: &self},                  // 1: from the canvas
		metadata.NewEntry{ActivityType: "a2a_receive", SourceID: &peer, TargetID: &self}, // 2: from a peer
		metadata.NewEntry{ActivityType: "a2a_send", SourceID: &self, TargetID: &peer},    // 3: to a peer
		metadata.NewEntry{ActivityType: "agent_log", SourceID: ptr(uuid.New())},          // 4: of nobody known
		metadata.NewEntry{ActivityType: "a2a_receive", SourceID: &self, TargetID: &self}, // 5
	)
	w.exec(t, `UPDATE activity_logs SET created_at = now() - make_interval(hours => 6 - seq::int)`)
	hoursAgo := func(h float64) *time.Time {
		return ptr(query[time.Time](t, w.pool, `SELECT now() - $1 * interval '1 hour'`, h))
	}
	for name, test := range map[string]struct {
		q    metadata.Query
		want []int64
	}{
		"all":                {metadata.Query{}, []int64{5, 4, 3, 2, 1}},
		"limit":              {metadata.Query{Limit: 2}, []int64{5, 4}},
		"limit too high":     {metadata.Query{Limit: 100000}, []int64{5, 4, 3, 2, 1}},
		"type":               {metadata.Query{Type: "a2a_receive"}, []int64{5, 2, 1}},
		"unknown type":       {metadata.Query{Type: "nothing"}, []int64{}},
		"canvas":             {metadata.Query{Source: metadata.SourceCanvas}, []int64{1}},
		"agent":              {metadata.Query{Source: metadata.SourceAgent}, []int64{5, 4, 3, 2}},
		"peer":               {metadata.Query{Peer: &peer}, []int64{3, 2}},
		"since":              {metadata.Query{Since: 150 * time.Minute}, []int64{5, 4}},
		"before":             {metadata.Query{Before: hoursAgo(2.5)}, []int64{3, 2, 1}},
		"window":             {metadata.Query{Since: 210 * time.Minute, Before: hoursAgo(1.5)}, []int64{4, 3}},
		"after":              {metadata.Query{After: &entries[1].ID}, []int64{3, 4, 5}},
		"after, limit":       {metadata.Query{After: &entries[0].ID, Limit: 2}, []int64{2, 3}},
		"after other type":   {metadata.Query{After: &entries[2].ID, Type: "a2a_receive"}, []int64{5}},
		"after newest":       {metadata.Query{After: &entries[4].ID}, []int64{}},
		"after, since":       {metadata.Query{After: &entries[0].ID, Since: 150 * time.Minute}, []int64{4, 5}},
		"everything at once": {metadata.Query{After: &entries[0].ID, Since: 10 * time.Hour, Before: hoursAgo(0.5), Type: "a2a_receive", Source: "agent", Peer: &peer, Limit: 3}, []int64{2}},
	} {
		for _, info := range []bool{false, true} {
			test.q.PeerInfo = info
			if got := seqs(w.page(t, test.q)); !slices.Equal(got, test.want) {
				t.Errorf("%s (peer info %v): seqs %v, want %v", name, info, got, test.want)
			}
		}
	}
	got := w.page(t, metadata.Query{After: &entries[0].ID, PeerInfo: true})
	if got[0].PeerName != "peer" || got[0].PeerRole != "critic" || got[2].PeerName != "" {
		t.Errorf("peers: %q %q, %q", got[0].PeerName, got[0].PeerRole, got[2].PeerName)
	}
}

func TestCursorNotFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.append(t, message("mine"))
	foreign, err := w.activity.Append(t.Context(), w.workspace(t, "other", nil), message("theirs"))
	if err != nil {
		t.Fatal(err)
	}
	for name, cursor := range map[string]*uuid.UUID{
		"zero": zeroCursor(), "unknown": ptr(uuid.New()), "foreign": &foreign[0].ID,
	} {
		entries, err := w.activity.Page(t.Context(), w.ws, metadata.Query{Type: "a2a_receive", After: cursor})
		if !errors.Is(err, metadata.ErrCursorNotFound) || entries != nil {
			t.Errorf("%s cursor: %v, %v; want ErrCursorNotFound", name, entries, err)
		}
	}
}

// Rows of one moment, as other software writes them, are paged through one at a
// time.
func TestPageBoundaryInsideRowsOfEqualTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cursor := w.append(t, message("0"), message("1"), message("2"), message("3"), message("4"))[0].ID
	w.exec(t, `UPDATE activity_logs SET created_at = now()`)
	var got []int64
	for {
		page := w.page(t, metadata.Query{Type: "a2a_receive", After: &cursor, Limit: 1})
		if len(page) == 0 {
			break
		}
		got = append(got, page[0].Seq)
		cursor = page[0].ID
	}
	if !slices.Equal(got, []int64{2, 3, 4, 5}) {
		t.Errorf("paged through %v, want [2 3 4 5]", got)
	}
	if got := seqs(w.page(t, metadata.Query{Since: time.Hour})); !slices.Equal(got, []int64{5, 4, 3, 2, 1}) {
		t.Errorf("newest first = %v", got)
	}
}

func TestPageIsCutByBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	activity := metadata.NewActivity(metadata.ActivityConfig{DB: w.pool, PageBytes: 1000})
	body := func(n int) metadata.NewEntry {
		return metadata.NewEntry{ActivityType: "a2a_receive", RequestBody: json.RawMessage(`"` + strings.Repeat("x", n-2) + `"`)}
	}
	cursor := w.append(t, message("start"), body(400), body(600), body(2), body(5000), body(3))[0].ID
	for _, want := range [][]int64{{2, 3}, {4}, {5}, {6}, {}} {
		page, err := activity.Page(t.Context(), w.ws, metadata.Query{After: &cursor})
		if err != nil {
			t.Fatal(err)
		}
		if got := seqs(page); !slices.Equal(got, want) {
			t.Fatalf("page = %v, want %v", got, want)
		}
		if len(page) > 0 {
			cursor = page[len(page)-1].ID
		}
	}
	page, err := activity.Page(t.Context(), w.ws, metadata.Query{})
	if err != nil || len(page) != 6 {
		t.Errorf("page without cursor has %d entries, %v; want 6", len(page), err)
	}
}
