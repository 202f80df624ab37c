package metadata_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

func TestInsertReturnsWhatGetReads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	object, inline := newUpload(t), newUpload(t)
	inline.ObjectKey, inline.Content, inline.MIMEType = "", []byte("hello"), ""
	records, err := w.uploads.Insert(t.Context(), w.ws, []metadata.NewUpload{object, inline})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range records {
		for name, get := range map[string]func(context.Context, storage.WorkspaceID, storage.FileID) (storage.Record, error){
			"Get": w.uploads.Get, "Stat": w.uploads.Stat,
		} {
			got, err := get(t.Context(), w.ws, want.FileID)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s of upload %d differs from what Insert returned (-insert +get):\n%s", name, i, diff)
			}
		}
	}
	if ttl := records[0].ExpiresAt.Sub(records[0].CreatedAt); ttl != storage.DefaultTTL {
		t.Errorf("TTL = %v", ttl)
	}
	if records[0].Content.Placement != storage.PlacementObject || records[1].Content.Placement != storage.PlacementInline {
		t.Errorf("placements: %v, %v", records[0].Content.Placement, records[1].Content.Placement)
	}
}

// A statement holds no more than 64 rows, and no more than 128 MiB of content,
// because of the longest message that PostgreSQL takes. All is one transaction.
func TestInsertKeepsStatementsShort(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uploads := metadata.NewUploads(metadata.UploadsConfig{DB: w.pool})
	large := make([]byte, 50*storage.MiB)
	for name, c := range map[string]struct {
		content          []byte
		rows, statements int
	}{"rows": {[]byte("small"), 130, 3}, "bytes": {large, 3, 2}} {
		rows := make([]metadata.NewUpload, c.rows)
		for i := range rows {
			rows[i] = newUpload(t)
			rows[i].Content, rows[i].Size, rows[i].ObjectKey = c.content, int64(len(c.content)), ""
		}
		ws := storage.WorkspaceID(uuid.New())
		records, err := uploads.Insert(t.Context(), ws, rows)
		if err != nil || len(records) != c.rows || records[c.rows-1].FileID != rows[c.rows-1].FileID || records[c.rows-1].CreatedAt.IsZero() {
			t.Fatalf("%s: %d records, %v", name, len(records), err)
		}
		const count = `SELECT format('%s rows, %s statements, %s transactions', count(*), count(DISTINCT cmin::text), count(DISTINCT xmin::text))
			FROM pending_uploads WHERE workspace_id = $1`
		if got, want := query[string](t, w.pool, count, ws.String()), fmt.Sprintf("%d rows, %d statements, 1 transactions", c.rows, c.statements); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestInsertRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, test := range map[string]struct {
		change func(*metadata.NewUpload)
		want   error
	}{
		"no name":       {func(u *metadata.NewUpload) { u.Filename = "" }, storage.ErrInvalidFilename},
		"long name":     {func(u *metadata.NewUpload) { u.Filename = strings.Repeat("a", 101) }, storage.ErrInvalidFilename},
		"above ceiling": {func(u *metadata.NewUpload) { u.Size = storage.MaxFileBytesCeiling + 1 }, storage.ErrTooLarge},
		"empty":         {func(u *metadata.NewUpload) { u.Size = 0 }, storage.ErrEmpty},
		"both places":   {func(u *metadata.NewUpload) { u.Content = []byte("x") }, nil},
		"no place":      {func(u *metadata.NewUpload) { u.ObjectKey = "" }, nil},
	} {
		good, bad := newUpload(t), newUpload(t)
		test.change(&bad)
		_, err := w.uploads.Insert(t.Context(), w.ws, []metadata.NewUpload{good, bad})
		if err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", name, err, test.want)
		}
		if errors.Is(err, metadata.ErrCommitUnknown) {
			t.Errorf("%s: a refusal is taken for a lost commit", name)
		}
	}
	if n := query[int](t, w.pool, `SELECT (SELECT count(*) FROM pending_uploads) + (SELECT count(*) FROM activity_logs)`); n != 0 {
		t.Errorf("%d rows were left", n)
	}
	if records, err := w.uploads.Insert(t.Context(), w.ws, nil); err != nil || records != nil {
		t.Errorf("empty batch: %v, %v", records, err)
	}
}

func TestReadInline(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	content := bytes.Repeat([]byte("0123456789"), 100_000)
	inline := w.stage(t, func(u *metadata.NewUpload) {
		u.ObjectKey, u.Content, u.Size, u.SHA256 = "", content, int64(len(content)), storage.Digest{}
	})
	object := w.stage(t, nil)
	for _, span := range [][2]int64{{0, 10}, {5, 3}, {999_990, 100}, {0, 2_000_000}, {2_000_000, 1}, {3, 0}} {
		got, err := w.uploads.ReadInline(t.Context(), w.ws, inline.FileID, span[0], span[1])
		lo, hi := min(span[0], int64(len(content))), min(span[0]+span[1], int64(len(content)))
		if err != nil || !bytes.Equal(got, content[lo:hi]) {
			t.Errorf("ReadInline(%v) = %d bytes, %v", span, len(got), err)
		}
	}
	if _, err := w.uploads.ReadInline(t.Context(), w.ws, inline.FileID, -1, 5); !errors.Is(err, storage.ErrRange) {
		t.Errorf("negative offset: %v", err)
	}
	for name, id := range map[string]metadata.UploadID{
		"object":    {Workspace: w.ws, File: object.FileID},
		"foreign":   {Workspace: storage.WorkspaceID(uuid.New()), File: inline.FileID},
		"not there": {Workspace: w.ws, File: storage.FileID(uuid.New())},
	} {
		if _, err := w.uploads.ReadInline(t.Context(), id.Workspace, id.File, 0, 1); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", name, err)
		}
	}
	// The digest of a row stored without one is computed.
	got, err := w.uploads.Get(t.Context(), w.ws, inline.FileID)
	if err != nil || got.Content.SHA256 != sha256.Sum256(content) {
		t.Errorf("digest = %v, %v", got.Content.SHA256, err)
	}
}

func TestVisibility(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	readable := metadata.NewUploads(metadata.UploadsConfig{DB: w.pool, ReadAfterAck: true})
	ops := map[string]func(u *metadata.Uploads, ws storage.WorkspaceID, f storage.FileID) error{
		"Get": func(u *metadata.Uploads, ws storage.WorkspaceID, f storage.FileID) error {
			_, err := u.Get(t.Context(), ws, f)
			return err
		},
		"Stat": func(u *metadata.Uploads, ws storage.WorkspaceID, f storage.FileID) error {
			_, err := u.Stat(t.Context(), ws, f)
			return err
		},
		"MarkFetched": func(u *metadata.Uploads, ws storage.WorkspaceID, f storage.FileID) error {
			return u.MarkFetched(t.Context(), ws, f)
		},
		"Ack": func(u *metadata.Uploads, ws storage.WorkspaceID, f storage.FileID) error {
			return u.Ack(t.Context(), ws, f)
		},
	}
	order := []string{"Get", "Stat", "MarkFetched", "Ack"}
	for name, test := range map[string]struct {
		set      string // SQL that makes the state
		foreign  bool
		seed     string // what succeeds with the seed's rule, in order of ops
		readable string // and with ReadAfterAck
	}{
		"live":               {"fetched_at = NULL", false, "Get Stat MarkFetched Ack", "Get Stat MarkFetched Ack"},
		"acked":              {"acked_at = now()", false, "Stat Ack", "Get Stat MarkFetched Ack"},
		"expired":            {"expires_at = now() - interval '1 s'", false, "", ""},
		"acked and expired":  {"acked_at = now(), expires_at = now() - interval '1 s'", false, "", ""},
		"being swept":        {"sweeping_at = now()", false, "", ""},
		"acked, being swept": {"acked_at = now(), sweeping_at = now()", false, "", ""},
		"foreign":            {"fetched_at = NULL", true, "", ""},
	} {
		for rule, u := range map[string]*metadata.Uploads{"seed": w.uploads, "readable after ack": readable} {
			want := test.seed
			if u == readable {
				want = test.readable
			}
			r := w.stage(t, nil)
			w.exec(t, `UPDATE pending_uploads SET `+test.set+` WHERE file_id = $1`, uuid.UUID(r.FileID))
			ws := w.ws
			if test.foreign {
				ws = storage.WorkspaceID(uuid.New())
			}
			var got []string
			for _, op := range order {
				err := ops[op](u, ws, r.FileID)
				if err == nil {
					got = append(got, op)
				} else if !errors.Is(err, storage.ErrNotFound) {
					t.Errorf("%s, %s, %s: %v", name, rule, op, err)
				}
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%s, %s: %v succeed, want %s", name, rule, got, want)
			}
		}
	}
}

func TestFetchedMovesAckedDoesNot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.stage(t, nil)
	stat := func() storage.Record {
		t.Helper()
		got, err := w.uploads.Stat(t.Context(), w.ws, r.FileID)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	mark := func() time.Time {
		t.Helper()
		if err := w.uploads.MarkFetched(t.Context(), w.ws, r.FileID); err != nil {
			t.Fatal(err)
		}
		return *stat().FetchedAt
	}
	if first, second := mark(), mark(); !second.After(first) {
		t.Errorf("fetched at %v, then %v", first, second)
	}
	ack := func() time.Time {
		t.Helper()
		if err := w.uploads.Ack(t.Context(), w.ws, r.FileID); err != nil {
			t.Fatal(err)
		}
		return *stat().AckedAt
	}
	if first, second := ack(), ack(); !second.Equal(first) {
		t.Errorf("acked at %v, then %v", first, second)
	}
}

// Another session holds the row with an ack that is not committed yet.
func TestConcurrentAcksBothSucceed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.stage(t, nil)
	tx := w.begin(t)
	if err := metadata.NewUploads(metadata.UploadsConfig{DB: tx}).Ack(t.Context(), w.ws, r.FileID); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- w.uploads.Ack(t.Context(), w.ws, r.FileID) }()
	w.waitForLockWaiters(t, 1)
	first := query[time.Time](t, tx, `SELECT acked_at FROM pending_uploads`)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("ack that lost the race: %v", err)
	}
	if got := query[time.Time](t, w.pool, `SELECT acked_at FROM pending_uploads`); !got.Equal(first) {
		t.Errorf("acked at %v, want %v", got, first)
	}
}

func TestMissingAndForeign(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := storage.WorkspaceID(uuid.New())
	acked, swept := w.stage(t, nil), w.stage(t, nil)
	w.exec(t, `UPDATE pending_uploads SET sweeping_at = now() WHERE file_id = $1`, uuid.UUID(swept.FileID))
	ids := []metadata.UploadID{
		{Workspace: other, File: acked.FileID},
		{Workspace: w.ws, File: acked.FileID},
		{Workspace: w.ws, File: swept.FileID},
		{Workspace: w.ws, File: storage.FileID(uuid.New())},
	}
	missing, err := w.uploads.Missing(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]metadata.UploadID{ids[0], ids[3]}, missing); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
	if missing, err := w.uploads.Missing(t.Context(), nil); err != nil || len(missing) != 0 {
		t.Errorf("missing of none = %v, %v", missing, err)
	}
	if owner, found, err := w.uploads.Foreign(t.Context(), other, acked.FileID); err != nil || !found || owner != w.ws {
		t.Errorf("foreign = %v, %v, %v", owner, found, err)
	}
	if _, found, err := w.uploads.Foreign(t.Context(), w.ws, acked.FileID); err != nil || found {
		t.Errorf("own upload is foreign: %v, %v", found, err)
	}
}

// brokenCommit is a database whose connection dies while it commits.
type brokenCommit struct {
	metadata.DB
	kill func(pgx.Tx)
}

type brokenTx struct {
	pgx.Tx
	kill func(pgx.Tx)
}

func (b brokenCommit) Begin(ctx context.Context) (pgx.Tx, error) {
	tx, err := b.DB.Begin(ctx)
	return brokenTx{tx, b.kill}, err
}

func (b brokenTx) Commit(ctx context.Context) error {
	b.kill(b.Tx)
	return b.Tx.Commit(ctx)
}

func TestLostCommitIsUnknownAndRefusedCommitIsNot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	terminate := func(tx pgx.Tx) {
		pid := tx.Conn().PgConn().PID()
		w.exec(t, `SELECT pg_terminate_backend($1)`, pid)
		eventually(t, func() bool {
			return query[int](t, w.pool, `SELECT count(*) FROM pg_stat_activity WHERE pid = $1`, pid) == 0
		})
	}
	fail := func(tx pgx.Tx) {
		_, err := tx.Exec(t.Context(), `SELECT 1/0`)
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) {
			t.Errorf("division: %v", err)
		}
	}
	for name, test := range map[string]struct {
		kill    func(pgx.Tx)
		unknown bool
	}{"lost": {terminate, true}, "refused": {fail, false}} {
		uploads := metadata.NewUploads(metadata.UploadsConfig{DB: brokenCommit{w.pool, test.kill}, Announcer: w.activity})
		_, err := uploads.Insert(t.Context(), w.ws, []metadata.NewUpload{newUpload(t)})
		if err == nil || errors.Is(err, metadata.ErrCommitUnknown) != test.unknown {
			t.Errorf("%s: %v, want unknown %v", name, err, test.unknown)
		}
	}
}

func TestPanicInAnnouncerRollsBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	uploads := metadata.NewUploads(metadata.UploadsConfig{DB: w.pool, Announcer: panicking{}})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		_, _ = uploads.Insert(t.Context(), w.ws, []metadata.NewUpload{newUpload(t)})
	}()
	if n := query[int](t, w.pool, `SELECT count(*) FROM pending_uploads`); n != 0 {
		t.Errorf("%d rows", n)
	}
	if n := w.pool.Stat().AcquiredConns(); n != 0 {
		t.Errorf("%d connections are still taken", n)
	}
}

type panicking struct{}

func (panicking) Announce(*pgx.Batch, storage.WorkspaceID, []storage.Record) (func(), error) {
	panic("announcer")
}
