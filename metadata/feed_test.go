package metadata_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

func TestAppendReturnsWhatPageReads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	source, target := uuid.New(), uuid.UUID(w.ws)
	written := w.append(t,
		metadata.NewEntry{
			ActivityType: "a2a_receive", SourceID: &source, TargetID: &target, Method: ptr("m"), Summary: ptr("s"),
			ErrorDetail: ptr("e"), RequestBody: json.RawMessage(`{"a": [1, 2], "b": "c d"}`),
			ResponseBody: json.RawMessage(`"x"`), ToolTrace: json.RawMessage(` [ ] `), DurationMS: ptr(7),
			Status: "error", MessageID: ptr("m1"),
		},
		metadata.NewEntry{ActivityType: "agent_log"},
	)
	if diff := cmp.Diff(written, w.page(t, metadata.Query{}), reversed()); diff != "" {
		t.Errorf("written and read differ (-written +read):\n%s", diff)
	}
	if got, want := string(written[0].RequestBody), `{"a":[1,2],"b":"c d"}`; got != want {
		t.Errorf("request body = %s, want %s", got, want)
	}
	if written[1].Status != "ok" || written[1].RequestBody != nil {
		t.Errorf("defaults: status %q, body %s", written[1].Status, written[1].RequestBody)
	}
	if !written[0].CreatedAt.Before(written[1].CreatedAt) {
		t.Errorf("created_at does not increase along seq: %v, %v", written[0].CreatedAt, written[1].CreatedAt)
	}
}

// reversed compares newest first with oldest first.
func reversed() cmp.Option {
	return cmp.Transformer("bySeq", func(entries []metadata.Entry) map[int64]metadata.Entry {
		m := map[int64]metadata.Entry{}
		for _, e := range entries {
			m[e.Seq] = e
		}
		return m
	})
}

func TestAppendRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	removed := w.workspace(t, "gone", nil)
	if _, err := w.workspaces.Remove(t.Context(), removed, metadata.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	body := func(doc string) metadata.NewEntry {
		return metadata.NewEntry{ActivityType: "a2a_receive", RequestBody: json.RawMessage(doc)}
	}
	for name, test := range map[string]struct {
		ws    storage.WorkspaceID
		entry metadata.NewEntry
		want  error
	}{
		"unknown workspace":        {storage.WorkspaceID(uuid.New()), message("x"), storage.ErrWorkspaceNotFound},
		"removed workspace":        {removed, message("x"), storage.ErrWorkspaceNotFound},
		"no JSON":                  {w.ws, body(`{`), metadata.ErrInvalidJSON},
		"NUL in JSON":              {w.ws, body(`{"a":"\u0000"}`), metadata.ErrInvalidJSON},
		"half a surrogate":         {w.ws, body(`{"a":"\ud800"}`), metadata.ErrInvalidJSON},
		"number out of range":      {w.ws, body(`{"a":1e1000000}`), metadata.ErrInvalidJSON},
		"nested too deep":          {w.ws, body(strings.Repeat("[", 10001) + strings.Repeat("]", 10001)), metadata.ErrInvalidJSON},
		"a number of 513 digits":   {w.ws, body(`[1e512]`), metadata.ErrInvalidJSON},
		"a fraction of 512 digits": {w.ws, body(`[1e-512]`), metadata.ErrInvalidJSON},
		"nested 201 deep":          {w.ws, body(strings.Repeat(`{"a":[`, 100) + "[]" + strings.Repeat("]}", 100)), metadata.ErrInvalidJSON},
		"numbers that grow":        {w.ws, body(`[` + strings.Repeat(`1e308,`, 300) + `1]`), metadata.ErrInvalidJSON},
		"NUL in text":              {w.ws, message("a\x00b"), metadata.ErrInvalidJSON},
	} {
		if _, err := w.activity.Append(t.Context(), test.ws, message("before"), test.entry); !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", name, err, test.want)
		}
	}
	if got := w.append(t, message("first"))[0].Seq; got != 1 {
		t.Errorf("seq after refused writes = %d, want 1", got)
	}
}

// A writer's transaction is held open while another writes and a reader polls:
// the second waits, the reader sees neither, and nothing ends up behind the
// reader's cursor.
func TestReaderNeverStepsOverAnUncommittedWriter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cursor := w.append(t, message("read"))[0].ID
	poll := func() []metadata.Entry {
		entries := w.page(t, metadata.Query{Type: metadata.ActivityReceive, After: &cursor})
		if len(entries) > 0 {
			cursor = entries[len(entries)-1].ID
		}
		return entries
	}

	// The upload's transaction starts first, and commits last.
	tx := w.begin(t)
	uploads := metadata.NewUploads(metadata.UploadsConfig{DB: tx, Announcer: inTx(tx)})
	if _, err := uploads.Insert(t.Context(), w.ws, []metadata.NewUpload{newUpload(t), newUpload(t)}); err != nil {
		t.Fatal(err)
	}
	late := make(chan metadata.Entry, 1)
	go func() {
		defer close(late)
		entry, _, err := w.activity.AppendMessage(t.Context(), w.ws, message("late"))
		if err != nil {
			t.Error(err)
			return
		}
		late <- entry
	}()
	w.waitForLockWaiters(t, 1)
	if got := poll(); len(got) != 0 {
		t.Fatalf("poll while the first writer is open = seq %v, want none", seqs(got))
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	entry := <-late
	if entry.Seq != 4 {
		t.Errorf("seq of the writer that waited = %d, want 4", entry.Seq)
	}
	got := poll()
	if diff := cmp.Diff([]int64{2, 3, 4}, seqs(got)); diff != "" {
		t.Errorf("poll after both committed (-want +got):\n%s", diff)
	}
	if !slices.IsSortedFunc(got, func(a, b metadata.Entry) int { return a.CreatedAt.Compare(b.CreatedAt) }) {
		t.Error("created_at does not follow seq")
	}
}

func TestRolledBackWriterLeavesNoGap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.append(t, message("1"))[0]
	tx := w.begin(t)
	if _, err := inTx(tx).Append(t.Context(), w.ws, message("a"), message("b")); err != nil {
		t.Fatal(err)
	}
	done := make(chan int64, 1)
	go func() {
		defer close(done)
		entries, err := w.activity.Append(t.Context(), w.ws, message("2"))
		if err != nil {
			t.Error(err)
			return
		}
		done <- entries[0].Seq
	}()
	w.waitForLockWaiters(t, 1)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got != 2 {
		t.Errorf("seq after a rolled back writer = %d, want 2", got)
	}
	if got := seqs(w.page(t, metadata.Query{After: &first.ID})); !slices.Equal(got, []int64{2}) {
		t.Errorf("page = %v, want [2]", got)
	}
}

// Eight writers with single entries, batches and rollbacks; a reader with small
// pages collects everything exactly once, in order, while they write.
func TestConcurrentWritersLoseNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cursor := w.append(t, message("start"))[0].ID
	const writers, rounds = 8, 20
	var committed sync.Map
	var wg sync.WaitGroup
	finished := make(chan struct{})
	for writer := range writers {
		wg.Go(func() {
			for round := range rounds {
				tx, err := w.pool.Begin(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				batch := make([]metadata.NewEntry, 1+(writer+round)%3)
				for i := range batch {
					batch[i] = message(fmt.Sprintf("%d/%d/%d", writer, round, i))
				}
				written, err := inTx(tx).Append(t.Context(), w.ws, batch...)
				if err != nil {
					t.Error(err)
				}
				end := tx.Commit
				if round%5 == 4 {
					end = tx.Rollback
				}
				if err := end(t.Context()); err != nil {
					t.Error(err)
				}
				if round%5 != 4 {
					for _, e := range written {
						committed.Store(*e.Summary, e.Seq)
					}
				}
			}
		})
	}
	go func() { wg.Wait(); close(finished) }()

	var got []metadata.Entry
	for last := false; ; {
		page := w.page(t, metadata.Query{Type: metadata.ActivityReceive, After: &cursor, Limit: 7})
		if len(page) > 0 {
			cursor = page[len(page)-1].ID
			got = append(got, page...)
			continue
		}
		if last {
			break
		}
		select {
		case <-finished:
			last = true // one more round: all is committed now
		default:
		}
	}
	want := 0
	committed.Range(func(any, any) bool { want++; return true })
	if len(got) != want {
		t.Errorf("reader got %d entries, writers committed %d", len(got), want)
	}
	for i, e := range got {
		if e.Seq != int64(i)+2 {
			t.Fatalf("entry %d has seq %d, want %d", i, e.Seq, i+2)
		}
		if seq, ok := committed.Load(*e.Summary); !ok || seq != e.Seq {
			t.Errorf("entry %q has seq %d, its writer got %v", *e.Summary, e.Seq, seq)
		}
	}
}

func TestMessageIsStoredOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := message("hello")
	m.MessageID = ptr("m-1")
	first, inserted, err := w.activity.AppendMessage(t.Context(), w.ws, m)
	if err != nil || !inserted {
		t.Fatalf("first: inserted %v, %v", inserted, err)
	}
	again := m
	again.Summary = ptr("other text")
	second, inserted, err := w.activity.AppendMessage(t.Context(), w.ws, again)
	if err != nil || inserted {
		t.Fatalf("second: inserted %v, %v", inserted, err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("second is not the first (-first +second):\n%s", diff)
	}
	other := w.workspace(t, "other", nil)
	if _, inserted, err := w.activity.AppendMessage(t.Context(), other, m); err != nil || !inserted {
		t.Errorf("same id in another feed: inserted %v, %v", inserted, err)
	}
	for range 2 {
		if _, inserted, err := w.activity.AppendMessage(t.Context(), w.ws, message("anonymous")); err != nil || !inserted {
			t.Errorf("without id: inserted %v, %v", inserted, err)
		}
	}
	if got := seqs(w.page(t, metadata.Query{})); !slices.Equal(got, []int64{3, 2, 1}) {
		t.Errorf("seqs = %v, want [3 2 1]", got)
	}
}

// Two inserts of one message wait behind the same lock, so both are past any
// check that could be made before it.
func TestConcurrentSameMessageIsStoredOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tx := w.begin(t)
	if _, err := inTx(tx).Append(t.Context(), w.ws, message("holds the lock")); err != nil {
		t.Fatal(err)
	}
	m := message("hello")
	m.MessageID = ptr("m-1")
	type result struct {
		entry    metadata.Entry
		inserted bool
	}
	results := make(chan result, 2)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			entry, inserted, err := w.activity.AppendMessage(t.Context(), w.ws, m)
			if err != nil {
				t.Error(err)
			}
			results <- result{entry, inserted}
		})
	}
	w.waitForLockWaiters(t, 2)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	a, b := <-results, <-results
	if a.inserted == b.inserted {
		t.Errorf("inserted = %v and %v, want one of each", a.inserted, b.inserted)
	}
	if diff := cmp.Diff(a.entry, b.entry); diff != "" {
		t.Errorf("entries differ:\n%s", diff)
	}
	if got := w.append(t, message("next"))[0].Seq; got != 3 {
		t.Errorf("next seq = %d, want 3", got)
	}
}

func TestBatchOf64AnnouncedInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	published := &publisher{}
	activity := metadata.NewActivity(metadata.ActivityConfig{DB: w.pool, Publisher: published})
	uploads := metadata.NewUploads(metadata.UploadsConfig{DB: w.pool, Announcer: activity})
	batch := make([]metadata.NewUpload, storage.MaxFilesPerBatch)
	for i := range batch {
		batch[i] = newUpload(t)
		batch[i].Filename = fmt.Sprintf("f%02d.txt", i)
	}
	records, err := uploads.Insert(t.Context(), w.ws, batch)
	if err != nil {
		t.Fatal(err)
	}
	entries := w.page(t, metadata.Query{Type: metadata.ActivityReceive, Source: metadata.SourceCanvas})
	slices.Reverse(entries)
	if len(entries) != len(batch) || len(records) != len(batch) {
		t.Fatalf("%d entries, %d records, want %d", len(entries), len(records), len(batch))
	}
	for i, e := range entries {
		want := fmt.Sprintf(`{"uri":"%s","name":"f%02d.txt","size":5,"file_id":"%s","mimeType":"text/plain"}`, records[i].URI(), i, records[i].FileID)
		if string(e.RequestBody) != want || e.Seq != int64(i)+1 || *e.Summary != "chat_upload_receive: "+batch[i].Filename ||
			*e.Method != metadata.MethodUpload || *e.TargetID != uuid.UUID(w.ws) {
			t.Errorf("entry %d = seq %d %s, want body %s", i, e.Seq, e.RequestBody, want)
		}
	}
	if got := published.entries(); len(got) != len(batch) || got[0].Seq != 1 {
		t.Errorf("published %d entries", len(got))
	}
}

type publisher struct {
	mu  sync.Mutex
	got []metadata.Entry
}

func (p *publisher) Publish(entries []metadata.Entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = append(p.got, entries...)
}

func (p *publisher) entries() []metadata.Entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got)
}

func TestPublishOnlyAfterCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	published := &publisher{}
	activity := metadata.NewActivity(metadata.ActivityConfig{DB: w.pool, Publisher: published})
	tx := w.begin(t)
	b := &pgx.Batch{}
	committed, err := activity.Announce(b, w.ws, []storage.Record{{WorkspaceID: w.ws, Filename: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.SendBatch(t.Context(), b).Close(); err != nil {
		t.Fatal(err)
	}
	if got := published.entries(); len(got) != 0 {
		t.Errorf("published %d entries before the commit", len(got))
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	committed()
	if got := published.entries(); len(got) != 1 {
		t.Errorf("published %d entries after the commit, want 1", len(got))
	}
	if _, err := activity.Append(t.Context(), storage.WorkspaceID(uuid.New()), message("x")); err == nil {
		t.Error("append to an unknown feed succeeded")
	}
	if got := published.entries(); len(got) != 1 {
		t.Errorf("a refused append was published")
	}
}

func TestFailedAnnouncementInsertsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	up := newUpload(t)
	unknown := storage.WorkspaceID(uuid.New())
	if _, err := w.uploads.Insert(t.Context(), unknown, []metadata.NewUpload{up}); !errors.Is(err, storage.ErrWorkspaceNotFound) {
		t.Errorf("error %v, want ErrWorkspaceNotFound", err)
	}
	missing, err := w.uploads.Missing(t.Context(), []metadata.UploadID{{Workspace: unknown, File: up.FileID}})
	if err != nil || len(missing) != 1 {
		t.Errorf("missing = %v, %v; want the upload", missing, err)
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	entries := w.append(t, message("31 d"), message("8 d acked"), message("8 d, the cursor"), message("8 d"), message("new"))
	for seq, age := range map[int64]string{1: "31 days", 2: "8 days", 3: "8 days", 4: "8 days"} {
		w.exec(t, `UPDATE activity_logs SET created_at = now() - $1::interval WHERE seq = $2`, age, seq)
	}
	if _, err := w.activity.AckSeq(t.Context(), w.ws, 3); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int64{1, 1, 0} {
		if n, err := w.activity.Prune(t.Context(), metadata.Retention{}, 1); err != nil || n != want {
			t.Errorf("Prune = %d, %v; want %d", n, err, want)
		}
	}
	if got := seqs(w.page(t, metadata.Query{})); !slices.Equal(got, []int64{5, 4, 3}) {
		t.Errorf("left = %v, want [5 4 3]", got)
	}
	// A receiver that acked what it read, and then slept, goes on where it was.
	if rows, err := w.activity.Page(t.Context(), w.ws, metadata.Query{After: &entries[2].ID}); err != nil || len(rows) != 2 {
		t.Errorf("after the acked cursor: %d rows, %v; want 2", len(rows), err)
	}
	if _, err := w.activity.Page(t.Context(), w.ws, metadata.Query{After: &entries[0].ID}); !errors.Is(err, metadata.ErrCursorNotFound) {
		t.Errorf("pruned cursor: %v, want ErrCursorNotFound", err)
	}
	if n, err := w.activity.Prune(t.Context(), metadata.Retention{Acked: time.Nanosecond, Hard: time.Hour}, 100); err != nil || n != 2 {
		t.Errorf("Prune(1 h) = %d, %v; want 2", n, err)
	}
	if got := w.append(t, message("next"))[0].Seq; got != 6 {
		t.Errorf("seq after pruning = %d, want 6", got)
	}
}
