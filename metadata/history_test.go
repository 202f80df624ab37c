package metadata_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/molecule-ai/pendinguploads/metadata"
)

// said is what a person said to the workspace.
func said(text string) metadata.NewEntry {
	e := message(text)
	e.RequestBody = json.RawMessage(fmt.Sprintf(`{"params":{"message":{"parts":[{"kind":"text","text":%q}]}}}`, text))
	return e
}

func TestHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	agent := uuid.New()
	upload, foreign := said("2"), said("3")
	upload.Method, foreign.SourceID = ptr(metadata.MethodUpload), &agent
	answer := metadata.NewEntry{ActivityType: metadata.ActivityReceive, Method: ptr("notify"), ResponseBody: json.RawMessage(`{"result":"5"}`)}
	log := said("4")
	log.ActivityType = "agent_log"
	w.append(t, said("1"), upload, foreign, log, answer, said("6"))
	entries, end, err := w.activity.History(t.Context(), w.ws, nil, 2)
	if err != nil || end || !slices.Equal(seqs(entries), []int64{5, 6}) {
		t.Fatalf("newest = %v, end %v, %v; want [5 6], false", seqs(entries), end, err)
	}
	entries, end, err = w.activity.History(t.Context(), w.ws, &entries[0].CreatedAt, 2)
	if err != nil || !end || !slices.Equal(seqs(entries), []int64{1}) {
		t.Errorf("older = %v, end %v, %v; want [1], true", seqs(entries), end, err)
	}
	entries, end, err = w.activity.History(t.Context(), w.ws, &entries[0].CreatedAt, 2)
	if err != nil || !end || len(entries) != 0 {
		t.Errorf("oldest = %v, end %v, %v; want [], true", seqs(entries), end, err)
	}
	entries, end, err = w.activity.History(t.Context(), w.ws, nil, 3)
	if err != nil || !end || len(entries) != 3 {
		t.Errorf("exactly all = %v, end %v, %v; want three, true", seqs(entries), end, err)
	}
}

func TestHistoryIsCutByBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	activity := metadata.NewActivity(metadata.ActivityConfig{DB: w.pool, PageBytes: 10})
	large := said(strings.Repeat("x", 100))
	w.append(t, large, large)
	entries, end, err := activity.History(t.Context(), w.ws, nil, 10)
	if err != nil || end || !slices.Equal(seqs(entries), []int64{2}) {
		t.Errorf("history = %v, end %v, %v; want [2], false", seqs(entries), end, err)
	}
}

// Entries that show nothing do not fill a page, however many there are.
func TestHistoryCountsWhatShows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task := metadata.NewEntry{ActivityType: metadata.ActivityReceive, Method: ptr("tasks/get"), RequestBody: json.RawMessage(`{"params":{"id":"t"}}`)}
	w.append(t, said("1"), said("2"))
	for range 5 {
		w.append(t, slices.Repeat([]metadata.NewEntry{task}, 50)...)
	}
	entries, end, err := w.activity.History(t.Context(), w.ws, nil, 1)
	if err != nil || end || !slices.Equal(seqs(entries), []int64{2}) {
		t.Errorf("newest = %v, end %v, %v; want [2], false", seqs(entries), end, err)
	}
	entries, end, err = w.activity.History(t.Context(), w.ws, nil, 2)
	if err != nil || !end || !slices.Equal(seqs(entries), []int64{1, 2}) {
		t.Errorf("both = %v, end %v, %v; want [1 2], true", seqs(entries), end, err)
	}
	w.exec(t, `DELETE FROM activity_logs WHERE seq <= 2`)
	entries, end, err = w.activity.History(t.Context(), w.ws, nil, 1)
	if err != nil || !end || len(entries) != 0 {
		t.Errorf("nothing that shows: %v, end %v, %v", seqs(entries), end, err)
	}
}

// A page reads as many rows as it takes to fill it, in order, and sorts none.
func TestHistoryGoesThroughAnIndex(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(t)
	w.exec(t, `UPDATE activity_logs SET request_body = '{"params":{"message":{"parts":[{"text":"x"}]}}}' WHERE seq % 4 = 1`)
	w.exec(t, `VACUUM FULL ANALYZE activity_logs`)
	recorded := &recorder{DB: w.pool}
	entries, end, err := metadata.NewActivity(metadata.ActivityConfig{DB: recorded}).History(t.Context(), w.ws, nil, 10)
	if err != nil || end || len(entries) != 10 {
		t.Fatalf("%d entries, end %v, %v", len(entries), end, err)
	}
	recorded.args["before"] = "infinity"
	recorded.explain(t, w, func(t *testing.T, p plan) {
		if indexes := p.scans(t); !slices.Equal(indexes, []string{"idx_activity_logs_created"}) {
			t.Errorf("scans %v", indexes)
		}
		if p.Hit+p.Read > 60 {
			t.Errorf("touched %d buffers", p.Hit+p.Read)
		}
	})
}
