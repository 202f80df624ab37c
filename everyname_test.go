package pendinguploads_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	_ "github.com/lib/pq"

	"github.com/molecule-ai/pendinguploads"
)

// Everything that a platform may know, used by a file that imports no other package
// of this module: TestEveryNameNeedsOnePackage holds it to that.

// everything are the names of methods, with the types that platforms rely on.
type everything interface {
	pendinguploads.Storage
	PutBatch(ctx context.Context, workspaceID uuid.UUID, items []pendinguploads.PutItem) ([]uuid.UUID, error)
	PutBatchTx(ctx context.Context, tx *sql.Tx, workspaceID uuid.UUID, items []pendinguploads.PutItem) ([]uuid.UUID, error)
	Sweep(ctx context.Context, ackRetention time.Duration) (pendinguploads.SweepResult, error)
	PutReader(ctx context.Context, workspaceID uuid.UUID, body io.Reader, filename, mimetype string) (uuid.UUID, error)
	Lookup(ctx context.Context, fileID uuid.UUID) (pendinguploads.Record, error)
	SweepOrphans(ctx context.Context) (int, error)
}

var (
	_ everything = (*pendinguploads.Store)(nil)

	_ func(*sql.DB, ...pendinguploads.Option) *pendinguploads.Store = pendinguploads.NewPostgres
	_ func(context.Context, *sql.DB) error                          = pendinguploads.Migrate
	_ func(context.Context, pendinguploads.Storage, time.Duration)  = pendinguploads.StartSweeper
	_ func(string) string                                           = pendinguploads.SanitizeFilename
	_ func() int                                                    = pendinguploads.SweepResult{}.Total

	_ = pendinguploads.Record{
		FileID: uuid.UUID{}, WorkspaceID: uuid.UUID{}, Content: []byte(nil), Filename: "", Mimetype: "", SizeBytes: int64(0),
		CreatedAt: time.Time{}, FetchedAt: (*time.Time)(nil), AckedAt: (*time.Time)(nil), ExpiresAt: time.Time{},
	}
	_ = pendinguploads.PutItem{Content: []byte(nil), Filename: "", Mimetype: ""}
	_ = pendinguploads.SweepResult{Acked: int(0), Expired: int(0)}
)

const (
	_ int           = pendinguploads.MaxFileBytes
	_ int64         = pendinguploads.MaxFileBytes
	_ time.Duration = pendinguploads.SweepInterval + pendinguploads.DefaultAckRetention + pendinguploads.OrphanGrace
)

func TestEveryName(t *testing.T) {
	t.Parallel()
	options := func() []pendinguploads.Option {
		return []pendinguploads.Option{
			pendinguploads.WithInlineMaxBytes(3), pendinguploads.WithReadAfterAck(), pendinguploads.WithMaxFileBytes(1 << 20), pendinguploads.WithKeyPrefix("chat"),
			pendinguploads.WithClock(time.Now), pendinguploads.WithLogger(slog.New(slog.DiscardHandler)), pendinguploads.WithRegisterer(newRegistry()),
		}
	}
	t.Run("NewPostgres", func(t *testing.T) {
		t.Parallel()
		db := openSQL(t, "postgres", referenceDatabase(t))
		useEveryName(t, db, pendinguploads.NewPostgres(db, options()...), false)
	})
	t.Run("NewS3", func(t *testing.T) {
		t.Parallel()
		db := openSQL(t, "postgres", referenceDatabase(t))
		if err := pendinguploads.Migrate(t.Context(), db); err != nil {
			t.Fatal(err)
		}
		useEveryName(t, db, pendinguploads.NewS3(db, openObjects(t), options()...), true)
	})
}

func useEveryName(t *testing.T, db *sql.DB, uploads *pendinguploads.Store, inObjects bool) {
	t.Helper()
	ctx, ws := t.Context(), uuid.New()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	name := pendinguploads.SanitizeFilename("mein Bericht.txt")
	content := []byte("some content")

	single, err := uploads.Put(ctx, ws, content, name, "text/plain")
	must(err)
	streamed, err := uploads.PutReader(ctx, ws, strings.NewReader("streamed content"), name, "")
	must(err)
	batch, err := uploads.PutBatch(ctx, ws, []pendinguploads.PutItem{{Content: []byte("row"), Filename: "row"}, {Content: []byte("long"), Filename: "long"}})
	must(err)
	tx, err := db.BeginTx(ctx, nil)
	must(err)
	inTx, err := uploads.PutBatchTx(ctx, tx, ws, []pendinguploads.PutItem{{Content: []byte("by tx"), Filename: "tx"}})
	must(err)
	must(tx.Commit())
	_, err = uploads.Put(ctx, ws, make([]byte, 1<<20+1), name, "")
	wantErr(t, "above the cap", err, pendinguploads.ErrTooLarge)
	_, err = uploads.Get(ctx, uuid.New())
	wantErr(t, "no such file", err, pendinguploads.ErrNotFound)

	must(uploads.MarkFetched(ctx, single))
	must(uploads.Ack(ctx, single))
	record, err := uploads.Get(ctx, single)
	must(err)
	if record.FileID != single || record.WorkspaceID != ws || !bytes.Equal(record.Content, content) || record.Filename != "mein_Bericht.txt" || record.Mimetype != "text/plain" ||
		record.SizeBytes != int64(len(content)) || record.CreatedAt.IsZero() || record.FetchedAt == nil || record.AckedAt == nil || !record.ExpiresAt.After(record.CreatedAt) {
		t.Errorf("record %+v", record)
	}
	for id, want := range map[uuid.UUID]string{streamed: "streamed content", batch[0]: "row", batch[1]: "long", inTx[0]: "by tx"} {
		record, err := uploads.Lookup(ctx, id)
		must(err)
		body, err := record.Open(ctx)
		must(err)
		got, err := io.ReadAll(body)
		must(errors.Join(err, body.Close()))
		if string(got) != want || record.Content != nil {
			t.Errorf("%q, want %q; content %q", got, want, record.Content)
		}
		url, expiresAt, err := record.URL(ctx, time.Minute)
		if !inObjects || len(want) <= 3 { // WithInlineMaxBytes
			wantErr(t, want+" by URL", err, pendinguploads.ErrNoURL)
		} else if err != nil || !strings.Contains(url, "/chat/"+ws.String()+"/"+id.String()) || time.Until(expiresAt) > time.Minute {
			t.Errorf("URL of %q: until %v, %v", want, expiresAt, err)
		}
	}

	if swept, err := uploads.Sweep(ctx, pendinguploads.DefaultAckRetention); err != nil || swept.Total() != 0 {
		t.Errorf("sweep within the retention: %+v, %v", swept, err)
	}
	_, err = db.ExecContext(ctx, `UPDATE pending_uploads SET expires_at = now() - interval '1 second' WHERE file_id = $1`, streamed)
	must(err)
	if swept, err := uploads.Sweep(ctx, 0); err != nil || swept != (pendinguploads.SweepResult{Acked: 1, Expired: 1}) {
		t.Errorf("sweep: %+v, %v", swept, err)
	}
	if n, err := uploads.SweepOrphans(ctx); err != nil || n != 0 {
		t.Errorf("objects without rows: %d, %v", n, err)
	}
	must(uploads.Ack(ctx, batch[0]))
	_, err = db.ExecContext(ctx, `UPDATE pending_uploads SET acked_at = now() - interval '1 hour 1 second' WHERE file_id = $1`, batch[0])
	must(err)
	sweeping, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		pendinguploads.StartSweeper(sweeping, uploads, pendinguploads.DefaultAckRetention)
	}()
	eventually(t, func() bool {
		_, err := uploads.Get(ctx, batch[0])
		return errors.Is(err, pendinguploads.ErrNotFound)
	})
	cancel()
	<-ended
}
