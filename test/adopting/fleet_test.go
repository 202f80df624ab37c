package adopting

import (
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads"
	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/internal/stagingtest"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/offload"
)

// column is rows of one kind: at which step of the page, staged by whom.
type column struct {
	name     string
	migrated bool
	early    bool // the same binary staged rows before the migration too
	by       func(p *platform) pendinguploads.FullStorage
	moves    []offload.Mode // of all rows, before anybody meets them
}

func old(p *platform) pendinguploads.FullStorage    { return p.old }
func inline(p *platform) pendinguploads.FullStorage { return p.inline }
func s3(p *platform) pendinguploads.FullStorage     { return p.s3 }
func s3cap(p *platform) pendinguploads.FullStorage  { return p.s3cap }

var columns = []column{
	{name: "0: old binary", by: old},
	{name: "1: `NewPostgres`", by: inline},
	{name: "2: old binary", migrated: true, early: true, by: old},
	{name: "2: `NewPostgres`", migrated: true, early: true, by: inline},
	{name: "3: `NewS3`, limit = cap", migrated: true, by: s3cap},
	{name: "4: `NewS3`, limit 0", migrated: true, by: s3},
	{name: "5: after `offload`", migrated: true, early: true, by: old, moves: []offload.Mode{offload.ToObjects}},
	{name: "back: after `offload --back`", migrated: true, by: s3, moves: []offload.Mode{offload.ToRows}},
}

// operation is what a binary does to such rows.
type operation struct {
	name string
	run  func(t *testing.T, p *platform, by pendinguploads.FullStorage, files []file) []string
	by   func(p *platform) pendinguploads.FullStorage
}

var operations = func() (list []operation) {
	for _, binary := range []struct {
		name string
		by   func(p *platform) pendinguploads.FullStorage
	}{{"old", old}, {"`NewPostgres`", inline}, {"`NewS3`", s3}} {
		list = append(list,
			operation{binary.name + ": Get", read, binary.by},
			operation{binary.name + ": MarkFetched, Ack", acknowledge, binary.by},
			operation{binary.name + ": Sweep", sweep, binary.by},
		)
	}
	return list
}()

// file is a staged file and what is in it.
type file struct {
	id      uuid.UUID
	content string
}

// Old and new binaries on one table, at each step of docs/adopting.md: every
// binary meets every kind of row, and the page says what comes of it.
func TestMixedFleet(t *testing.T) {
	t.Parallel()
	var found results
	t.Run("rows", func(t *testing.T) {
		for _, c := range columns {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, &found)
			})
		}
	})
	t.Run("page", func(t *testing.T) { found.isOnThePage(t) }) //nolint:paralleltest // after the rows
}

func (c column) run(t *testing.T, found *results) {
	t.Helper()
	p := newPlatform(t, "postgres")
	files := make([][]file, len(operations))
	stage := func() {
		for i := range operations {
			files[i] = append(files[i], p.stage(t, c.by(p))...)
		}
	}
	if c.early {
		stage()
	}
	if c.migrated {
		p.migrate(t)
	}
	stage()
	for _, mode := range c.moves {
		p.move(t, mode)
	}
	for i, o := range operations {
		for _, outcome := range o.run(t, p, o.by(p), files[i]) {
			found.add(o.name, c.name, outcome)
		}
	}
}

// stage puts files in all ways there are.
func (p *platform) stage(t *testing.T, by pendinguploads.FullStorage) []file {
	t.Helper()
	content := func(i int) string { return fmt.Sprint("file ", i) }
	item := func(i int) pendinguploads.PutItem {
		return pendinguploads.PutItem{Content: []byte(content(i)), Filename: "a.txt", Mimetype: "text/plain"}
	}
	ids := []uuid.UUID{put(t, by, content(0))}
	batch, err := by.PutBatch(t.Context(), uuid.New(), []pendinguploads.PutItem{item(1), item(2)})
	if err != nil {
		t.Fatal(err)
	}
	ids = append(ids, batch...)
	ids = append(ids, p.putBatchTx(t, by, item(3), item(4))...)
	files := make([]file, len(ids))
	for i, id := range ids {
		files[i] = file{id, content(i)}
	}
	return files
}

// move is the engine of the command, on all rows.
func (p *platform) move(t *testing.T, mode offload.Mode) {
	t.Helper()
	db, err := metadata.Open(t.Context(), metadata.PoolConfig{URL: p.url, MaxConns: offload.ConnsPerWorker})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	pool, err := blob.NewPool(blob.PoolConfig{MaxWait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	cfg := offload.Config{
		KeyPrefix: storage.DefaultKeyPrefix,
		DB:        db, Uploads: metadata.NewUploads(metadata.UploadsConfig{DB: db}), Objects: p.objects, Budget: pool,
		Mode: mode, Workers: 1, Logger: slog.New(slog.DiscardHandler),
	}
	if mode == offload.ToRows {
		cfg.InlineMaxBytes = pendinguploads.MaxFileBytes
	}
	m, err := offload.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	all := p.count(t, `SELECT count(*) FROM pending_uploads`)
	if r, err := m.Run(t.Context()); err != nil || int(r.Rows) != all {
		t.Fatalf("%+v of %d rows, %v", r, all, err)
	}
}

func read(t *testing.T, _ *platform, by pendinguploads.FullStorage, files []file) (outcomes []string) {
	t.Helper()
	for _, f := range files {
		r, err := by.Get(t.Context(), f.id)
		switch {
		case err != nil:
			outcomes = append(outcomes, refusal(err))
		case r.SizeBytes == int64(len(f.content)) && len(r.Content) == 0:
			outcomes = append(outcomes, "**no bytes, no error**")
		case r.FileID == f.id && string(r.Content) == f.content && r.SizeBytes == int64(len(f.content)) &&
			r.Filename == "a.txt" && r.Mimetype == "text/plain" && r.ExpiresAt.Sub(r.CreatedAt) == 24*time.Hour:
			outcomes = append(outcomes, "the file")
		default:
			outcomes = append(outcomes, fmt.Sprintf("unexpected: %+v", r))
		}
	}
	return outcomes
}

// refusal is an error of a binary that knows what is wrong.
func refusal(err error) string {
	switch {
	case errors.Is(err, pendinguploads.ErrNotFound):
		return "unexpected: not found"
	case errors.Is(err, pendinguploads.ErrSchema):
		return "`ErrSchema`"
	case strings.Contains(err.Error(), "lies in an object"):
		return "an error that says where it is"
	}
	return "unexpected: " + err.Error()
}

func acknowledge(t *testing.T, p *platform, by pendinguploads.FullStorage, files []file) (outcomes []string) {
	t.Helper()
	const done = `SELECT count(*) FROM pending_uploads WHERE file_id = $1 AND fetched_at IS NOT NULL AND acked_at IS NOT NULL`
	for _, f := range files {
		outcome := "yes"
		// Acks are repeated where their answers are lost.
		if err := errors.Join(by.MarkFetched(t.Context(), f.id), by.Ack(t.Context(), f.id), by.Ack(t.Context(), f.id)); err != nil {
			outcome = refusal(err)
		} else if p.count(t, done, f.id) != 1 {
			outcome = "unexpected: no error, and nothing done"
		}
		outcomes = append(outcomes, outcome)
	}
	return outcomes
}

// sweep has some files due in either way, and one that is not.
func sweep(t *testing.T, p *platform, by pendinguploads.FullStorage, files []file) []string {
	t.Helper()
	live, acked, due := files[0], files[1:3], files[1:]
	for _, f := range acked {
		p.exec(t, `UPDATE pending_uploads SET acked_at = now() - interval '2 hours' WHERE file_id = $1`, f.id)
	}
	for _, f := range due[len(acked):] {
		p.exec(t, `UPDATE pending_uploads SET expires_at = now() - interval '1 second' WHERE file_id = $1`, f.id)
	}
	before := p.keys(t)
	result, err := by.Sweep(t.Context(), pendinguploads.DefaultAckRetention)
	if err != nil {
		outcome := refusal(err)
		// Nobody else's sweep should meet them.
		for _, f := range due {
			p.exec(t, `DELETE FROM pending_uploads WHERE file_id = $1`, f.id)
		}
		return []string{outcome}
	}
	if want := (pendinguploads.SweepResult{Acked: len(acked), Expired: len(due) - len(acked)}); result != want {
		t.Errorf("swept %+v, want %+v", result, want)
	}
	for _, f := range due {
		if n := p.count(t, `SELECT count(*) FROM pending_uploads WHERE file_id = $1`, f.id); n != 0 {
			t.Errorf("a file that is due has %d rows after the sweep", n)
		}
	}
	if n := p.count(t, `SELECT count(*) FROM pending_uploads WHERE file_id = $1`, live.id); n != 1 {
		t.Errorf("a file that is not due has %d rows after the sweep", n)
	}
	removed := len(before) - len(p.keys(t))
	switch {
	case len(before) == 0:
		return []string{"yes"}
	case removed == len(due):
		return []string{"yes, with the objects"}
	case removed == 0:
		p.wantOrphans(t, len(due))
		return []string{"rows; **objects stay** until the orphan sweep"}
	}
	return []string{fmt.Sprintf("unexpected: %d of %d objects removed", removed, len(due))}
}

func (p *platform) keys(t *testing.T) []string {
	t.Helper()
	return stagingtest.Keys(t, p.objects)
}

// wantOrphans looks for objects without rows at once, when they are too young, and
// after the grace period: then so many go, and no other.
func (p *platform) wantOrphans(t *testing.T, n int) {
	t.Helper()
	all := p.keys(t)
	if removed, err := p.s3.SweepOrphans(t.Context()); err != nil || removed != 0 {
		t.Errorf("within the grace period: %d orphans removed, %v", removed, err)
	}
	later := pendinguploads.NewS3(p.db, p.objects, pendinguploads.WithLogger(slog.New(slog.DiscardHandler)),
		pendinguploads.WithClock(func() time.Time { return time.Now().Add(pendinguploads.OrphanGrace + time.Minute) }))
	if removed, err := later.SweepOrphans(t.Context()); err != nil || removed != n {
		t.Errorf("after the grace period: %d orphans removed, %v, want %d", removed, err, n)
	}
	left := p.keys(t)
	for _, key := range all {
		file := path.Base(key)
		if rows := p.count(t, `SELECT count(*) FROM pending_uploads WHERE file_id = $1`, file); (rows == 1) != slices.Contains(left, key) {
			t.Errorf("object %s, with %d rows: there after the orphan sweep: %v", key, rows, slices.Contains(left, key))
		}
	}
}

// NewS3 on a table that was not migrated stages nothing, and leaves nothing.
func TestNewS3NeedsTheMigration(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, "postgres")
	for name, by := range map[string]pendinguploads.Storage{"limit 0": p.s3, "limit = cap": p.s3cap} {
		_, err := by.Put(t.Context(), uuid.New(), []byte("x"), "a", "")
		if err == nil || !strings.Contains(err.Error(), `column "object_key"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := p.count(t, `SELECT count(*) FROM pending_uploads`); n != 0 || len(p.keys(t)) != 0 {
		t.Errorf("%d rows, objects %v", n, p.keys(t))
	}
	p.migrate(t)
	if r, err := p.s3.Get(t.Context(), put(t, p.s3, "x")); err != nil || string(r.Content) != "x" {
		t.Errorf("after the migration: %q, %v", r.Content, err)
	}
}
