package metadata_test

import (
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

var (
	movedText   = []byte("hello")
	movedDigest = storage.Digest(sha256.Sum256(movedText))
)

func inlineScope() metadata.MoveScope {
	return metadata.MoveScope{From: storage.PlacementInline, MinBytes: 1, MaxBytes: math.MaxInt64}
}

// stageInline stages "hello" in its row.
func (w *world) stageInline(t *testing.T) metadata.UploadID {
	t.Helper()
	r := w.stage(t, func(u *metadata.NewUpload) { u.ObjectKey, u.Content, u.SHA256 = "", movedText, movedDigest })
	return metadata.UploadID{Workspace: r.WorkspaceID, File: r.FileID}
}

func (w *world) stageObject(t *testing.T) (metadata.UploadID, string) {
	t.Helper()
	r := w.stage(t, func(u *metadata.NewUpload) { u.SHA256 = movedDigest })
	return metadata.UploadID{Workspace: r.WorkspaceID, File: r.FileID}, r.Content.ObjectKey
}

// where names an upload in the tests' own statements.
const where = ` WHERE file_id = $1`

// Both moves are guarded by what Get would say, at the instant of the flip.
func TestAMoveFlipsOnlyWhatIsServedFromWhereItWas(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql          string
		readAfterAck bool
		want         bool
	}{
		"live":                     {``, false, true},
		"without a digest":         {`UPDATE pending_uploads SET sha256 = NULL`, false, true},
		"fetched":                  {`UPDATE pending_uploads SET fetched_at = now()`, false, true},
		"acked":                    {`UPDATE pending_uploads SET acked_at = now()`, false, false},
		"acked, readable":          {`UPDATE pending_uploads SET acked_at = now()`, true, true},
		"expired":                  {`UPDATE pending_uploads SET expires_at = now() - interval '1 second'`, false, false},
		"acked, readable, expired": {`UPDATE pending_uploads SET acked_at = now(), expires_at = now() - interval '1 second'`, true, false},
		"being swept":              {`UPDATE pending_uploads SET sweeping_at = now()`, false, false},
		"being swept, acked":       {`UPDATE pending_uploads SET sweeping_at = now(), acked_at = now()`, true, false},
		"swept":                    {`DELETE FROM pending_uploads`, false, false},
		"another digest":           {`UPDATE pending_uploads SET sha256 = sha256('x')`, false, false},
		"moved already":            {`UPDATE pending_uploads SET object_key = CASE WHEN object_key IS NULL THEN 'y' END, content = CASE WHEN object_key IS NOT NULL THEN 'hello'::bytea END`, false, false},
	} {
		for _, toRow := range []bool{false, true} {
			direction := map[bool]string{false: ", to an object", true: ", to its row"}[toRow]
			t.Run(name+direction, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				uploads := metadata.NewUploads(metadata.UploadsConfig{DB: w.pool, ReadAfterAck: c.readAfterAck})
				id, key := metadata.UploadID{}, "k"
				if toRow {
					id, key = w.stageObject(t)
				} else {
					id = w.stageInline(t)
				}
				if c.sql != "" {
					w.exec(t, c.sql+where, uuid.UUID(id.File))
				}
				var moved bool
				var err error
				if toRow {
					moved, err = uploads.MoveToRow(t.Context(), id, key, movedDigest, movedText)
				} else {
					moved, err = moveToObject(t, uploads, id, key)
				}
				if err != nil || moved != c.want {
					t.Fatalf("%v, %v, want %v", moved, err, c.want)
				}
				if !moved {
					return
				}
				r, err := uploads.Stat(t.Context(), id.Workspace, id.File)
				if err != nil || r.Content.SHA256 != movedDigest || (r.Content.ObjectKey == "") != toRow {
					t.Errorf("%+v, %v", r.Content, err)
				}
				if toRow {
					b, err := uploads.ReadInline(t.Context(), id.Workspace, id.File, 0, 100)
					if err != nil || string(b) != "hello" {
						t.Errorf("%q, %v", b, err)
					}
				}
			})
		}
	}
}

func moveToObject(t *testing.T, uploads *metadata.Uploads, id metadata.UploadID, key string) (bool, error) {
	flips, err := uploads.MoveToObjects(t.Context(), metadata.ObjectMove{UploadID: id, Key: key, SHA256: movedDigest})
	return flips[id] == metadata.FlipMoved, err
}

// Each row has its own key and digest, and its own verdict.
func TestUploadsMoveTogether(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var moves []metadata.ObjectMove
	for i := range 7 {
		moves = append(moves, metadata.ObjectMove{UploadID: w.stageInline(t), Key: fmt.Sprint("k", i), SHA256: movedDigest})
	}
	acked, other, gone, foreign, held := &moves[1], &moves[2], &moves[3], &moves[4], &moves[6]
	if err := w.uploads.Ack(t.Context(), acked.Workspace, acked.File); err != nil {
		t.Fatal(err)
	}
	other.SHA256 = storage.Digest{1}
	w.exec(t, `DELETE FROM pending_uploads`+where, uuid.UUID(gone.File))
	foreign.Workspace = storage.WorkspaceID(uuid.New())
	tx := w.begin(t)
	if err := w.uploads.Within(tx).MarkFetched(t.Context(), held.Workspace, held.File); err != nil {
		t.Fatal(err)
	}
	moved, err := w.uploads.MoveToObjects(t.Context(), moves...)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[metadata.UploadID]metadata.Flip{
		moves[0].UploadID: metadata.FlipMoved, moves[5].UploadID: metadata.FlipMoved, held.UploadID: metadata.FlipBusy,
	}, moved); diff != "" {
		t.Errorf("moved (-want +got):\n%s", diff)
	}
	for _, i := range []int{0, 5} {
		if key, _, err := w.uploads.Placement(t.Context(), moves[i].UploadID); err != nil || key != moves[i].Key {
			t.Errorf("%d cites %q, %v", i, key, err)
		}
	}
	for _, m := range []*metadata.ObjectMove{acked, other, held} {
		if key, _, err := w.uploads.Placement(t.Context(), m.UploadID); err != nil || key != "" {
			t.Errorf("%v cites %q, %v", m.UploadID, key, err)
		}
	}
	if moved, err := w.uploads.MoveToObjects(t.Context()); err != nil || len(moved) != 0 {
		t.Errorf("of none: %v, %v", moved, err)
	}
}

// What is small comes with its row, if that is asked for.
func TestContentThatComesWithItsRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.stageInline(t) // 5 bytes
	w.stage(t, func(u *metadata.NewUpload) { u.ObjectKey, u.Content, u.Size = "", []byte("123456"), 6 })
	for most, want := range map[int64][]string{0: {"", ""}, 4: {"", ""}, 5: {"hello", ""}, 6: {"hello", "123456"}} {
		next, err := w.uploads.NextMovable(t.Context(), inlineScope(), metadata.UploadID{}, metadata.Take{Limit: 9, Content: most})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range next {
			got = append(got, string(m.Content))
		}
		if !slices.Equal(got, want) {
			t.Errorf("at most %d: %q, want %q", most, got, want)
		}
	}
}

func TestMoveToRowWantsTheWholeContentOfThatObject(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, key := w.stageObject(t)
	for name, c := range map[string]struct {
		key     string
		content string
	}{"another key": {"other", "hello"}, "short": {key, "hell"}, "long": {key, "hello!"}} {
		if moved, err := w.uploads.MoveToRow(t.Context(), id, c.key, movedDigest, []byte(c.content)); err != nil || moved {
			t.Errorf("%s: %v, %v", name, moved, err)
		}
	}
}

// An ack that comes first is not waited for, and decides when it is over.
func TestAFlipPassesOverAnAckThatRuns(t *testing.T) {
	t.Parallel()
	for name, commit := range map[string]bool{"that commits": true, "that rolls back": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			id := w.stageInline(t)
			move := metadata.ObjectMove{UploadID: id, Key: "k", SHA256: movedDigest}
			tx := w.begin(t)
			if err := w.uploads.Within(tx).Ack(t.Context(), id.Workspace, id.File); err != nil {
				t.Fatal(err)
			}
			if flips, err := w.uploads.MoveToObjects(t.Context(), move); err != nil || flips[id] != metadata.FlipBusy {
				t.Errorf("while it runs: %v, %v", flips, err)
			}
			end, want := tx.Rollback, metadata.FlipMoved
			if commit {
				end, want = tx.Commit, metadata.FlipLeft
			}
			if err := end(t.Context()); err != nil {
				t.Fatal(err)
			}
			if flips, err := w.uploads.MoveToObjects(t.Context(), move); err != nil || flips[id] != want {
				t.Errorf("afterwards: %v, %v", flips, err)
			}
		})
	}
}

// A claim keeps nobody from the row, VACUUM included, and ends with its
// transaction.
func TestAClaimIsExclusiveAndHoldsNothingUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := []metadata.UploadID{w.stageInline(t), w.stageInline(t), w.stageInline(t)}
	claims := func(tx pgx.Tx, limit int) (claimed []bool) {
		t.Helper()
		next, err := w.uploads.Within(tx).NextMovable(t.Context(), inlineScope(), metadata.UploadID{}, metadata.Take{Limit: limit, Claim: true})
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range next {
			if m.UploadID != ids[i] || m.Size != 5 || m.SHA256 != movedDigest || m.MIMEType != "text/plain" || m.ObjectKey != "" {
				t.Errorf("%d: %+v", i, m)
			}
			claimed = append(claimed, m.Claimed)
		}
		return claimed
	}
	first, second := w.begin(t), w.begin(t)
	if got := claims(first, 2); !slices.Equal(got, []bool{true, true}) {
		t.Fatalf("first: %v", got)
	}
	if got := claims(second, 3); !slices.Equal(got, []bool{false, false, true}) {
		t.Fatalf("second: %v", got)
	}
	// Neither waits.
	if err := w.uploads.MarkFetched(t.Context(), w.ws, ids[0].File); err != nil {
		t.Error(err)
	}
	if err := w.uploads.Ack(t.Context(), w.ws, ids[0].File); err != nil {
		t.Error(err)
	}
	if r := w.sweep(t, -1); r != (storage.SweepResult{Acked: 1}) {
		t.Errorf("swept %+v", r)
	}
	held := query[int](t, w.pool, `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND state = 'idle in transaction' AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)`)
	if held != 0 {
		t.Errorf("%d transactions keep VACUUM from rows", held)
	}
	if err := first.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids = ids[1:]
	if got := claims(w.begin(t), 3); !slices.Equal(got, []bool{true, false}) {
		t.Errorf("after the first ended: %v", got)
	}
	next, err := w.uploads.NextMovable(t.Context(), inlineScope(), metadata.UploadID{}, metadata.Take{Limit: 3})
	if err != nil || len(next) != 2 || !next[0].Claimed || !next[1].Claimed {
		t.Errorf("without claims: %+v, %v", next, err)
	}
}

func TestMovableUploadsAreThoseServedInTheScope(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.stageInline(t) // 5 bytes
	large := w.stage(t, func(u *metadata.NewUpload) { u.ObjectKey, u.Content, u.Size = "", []byte("1234567890"), 10 })
	w.stageObject(t)
	acked := w.stageInline(t)
	if err := w.uploads.Ack(t.Context(), w.ws, acked.File); err != nil {
		t.Fatal(err)
	}
	w.aged(t, "", "-1 second")
	readable := metadata.NewUploads(metadata.UploadsConfig{DB: w.pool, ReadAfterAck: true, TTL: time.Hour})
	for name, c := range map[string]struct {
		uploads     *metadata.Uploads
		scope       metadata.MoveScope
		rows, bytes int64
	}{
		"inline":              {w.uploads, inlineScope(), 2, 15},
		"inline, large":       {w.uploads, metadata.MoveScope{From: storage.PlacementInline, MinBytes: 6, MaxBytes: 10}, 1, 10},
		"inline, small":       {w.uploads, metadata.MoveScope{From: storage.PlacementInline, MinBytes: 1, MaxBytes: 9}, 1, 5},
		"inline, acked too":   {readable, inlineScope(), 3, 20},
		"in objects":          {w.uploads, metadata.MoveScope{From: storage.PlacementObject, MinBytes: 1, MaxBytes: math.MaxInt64}, 1, 5},
		"in objects, smaller": {w.uploads, metadata.MoveScope{From: storage.PlacementObject, MinBytes: 1, MaxBytes: 4}, 0, 0},
	} {
		rows, bytes, err := c.uploads.CountMovable(t.Context(), c.scope)
		if err != nil || rows != c.rows || bytes != c.bytes {
			t.Errorf("%s: %d rows, %d bytes, %v; want %d and %d", name, rows, bytes, err, c.rows, c.bytes)
		}
		// One at a time, all the way.
		var after metadata.UploadID
		var n, sum int64
		for {
			next, err := c.uploads.NextMovable(t.Context(), c.scope, after, metadata.Take{Limit: 1})
			if err != nil {
				t.Fatal(err)
			}
			if len(next) == 0 {
				break
			}
			after, n, sum = next[0].UploadID, n+1, sum+next[0].Size
		}
		if n != rows || sum != bytes {
			t.Errorf("%s: a walk finds %d rows, %d bytes", name, n, sum)
		}
	}
	if large.Content.Size != 10 {
		t.Error(large)
	}
}

func TestPlacementTellsWhatIsFinal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, key := w.stageObject(t)
	inline := w.stageInline(t)
	want := func(id metadata.UploadID, wantKey string, wantFinal bool) {
		t.Helper()
		key, final, err := w.uploads.Placement(t.Context(), id)
		if err != nil || key != wantKey || final != wantFinal {
			t.Errorf("%q, %v, %v; want %q, %v", key, final, err, wantKey, wantFinal)
		}
	}
	want(id, key, false)
	want(inline, "", false)
	for _, i := range []metadata.UploadID{id, inline} {
		if err := w.uploads.Ack(t.Context(), w.ws, i.File); err != nil {
			t.Fatal(err)
		}
	}
	want(inline, "", false)
	if _, err := w.uploads.MarkDue(t.Context(), -1, 10); err != nil {
		t.Fatal(err)
	}
	want(id, key, true)
	want(inline, "", true)
	if _, err := w.uploads.SweepDue(t.Context(), 10, keep); err != nil {
		t.Fatal(err)
	}
	want(id, "", true)
}
