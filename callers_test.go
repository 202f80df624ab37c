package pendinguploads_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads"
)

// The callers that exist: those of the platforms' first version, whose test doubles
// have four methods, and those of later ones, which call seven. Both compile, and
// do the same on their doubles as on a Store.

// seedCaller is a handler of the first version.
type seedCaller struct {
	uploads pendinguploads.Storage
}

func (c seedCaller) stage(ctx context.Context, ws uuid.UUID, name string, content []byte) (uuid.UUID, error) {
	return c.uploads.Put(ctx, ws, content, name, "text/plain")
}

// fetch serves a file to the workspace that it belongs to.
func (c seedCaller) fetch(ctx context.Context, ws, fileID uuid.UUID) ([]byte, error) {
	record, err := c.uploads.Get(ctx, fileID)
	if err != nil {
		return nil, err
	}
	if record.WorkspaceID != ws {
		return nil, pendinguploads.ErrNotFound
	}
	return record.Content, c.uploads.MarkFetched(ctx, fileID)
}

func (c seedCaller) ack(ctx context.Context, ws, fileID uuid.UUID) error {
	if _, err := c.fetch(ctx, ws, fileID); err != nil {
		return err
	}
	return c.uploads.Ack(ctx, fileID)
}

// fourMethods is a test double of the first version.
type fourMethods struct {
	records map[uuid.UUID]pendinguploads.Record
}

func (d *fourMethods) Put(_ context.Context, ws uuid.UUID, content []byte, filename, mimetype string) (uuid.UUID, error) {
	if len(content) > pendinguploads.MaxFileBytes {
		return uuid.Nil, pendinguploads.ErrTooLarge
	}
	r := pendinguploads.Record{
		FileID: uuid.New(), WorkspaceID: ws, Content: content, Filename: filename, Mimetype: mimetype,
		SizeBytes: int64(len(content)), CreatedAt: time.Now(), ExpiresAt: time.Now().Add(24 * time.Hour),
	}
	d.records[r.FileID] = r
	return r.FileID, nil
}

func (d *fourMethods) Get(_ context.Context, fileID uuid.UUID) (pendinguploads.Record, error) {
	r, ok := d.records[fileID]
	if !ok || r.AckedAt != nil {
		return pendinguploads.Record{}, fmt.Errorf("double: %w", pendinguploads.ErrNotFound)
	}
	return r, nil
}

func (d *fourMethods) MarkFetched(ctx context.Context, fileID uuid.UUID) error {
	r, err := d.Get(ctx, fileID)
	if err != nil {
		return err
	}
	now := time.Now()
	r.FetchedAt = &now
	d.records[fileID] = r
	return nil
}

func (d *fourMethods) Ack(_ context.Context, fileID uuid.UUID) error {
	r, ok := d.records[fileID]
	if !ok {
		return pendinguploads.ErrNotFound
	}
	now := time.Now()
	r.AckedAt = &now
	d.records[fileID] = r
	return nil
}

// sevenMethods is a test double of later versions.
type sevenMethods struct{ fourMethods }

func (d *sevenMethods) PutBatch(ctx context.Context, ws uuid.UUID, items []pendinguploads.PutItem) ([]uuid.UUID, error) {
	ids := make([]uuid.UUID, len(items))
	for i, item := range items {
		id, err := d.Put(ctx, ws, item.Content, item.Filename, item.Mimetype)
		if err != nil {
			return nil, err
		}
		ids[i] = id
	}
	return ids, nil
}

func (d *sevenMethods) PutBatchTx(ctx context.Context, _ *sql.Tx, ws uuid.UUID, items []pendinguploads.PutItem) ([]uuid.UUID, error) {
	return d.PutBatch(ctx, ws, items)
}

func (d *sevenMethods) Sweep(context.Context, time.Duration) (pendinguploads.SweepResult, error) {
	var swept pendinguploads.SweepResult
	for id, r := range d.records {
		if r.AckedAt != nil {
			delete(d.records, id)
			swept.Acked++
		}
	}
	return swept, nil
}

var (
	_ pendinguploads.Storage     = (*fourMethods)(nil)
	_ pendinguploads.FullStorage = (*sevenMethods)(nil)
	_ pendinguploads.FullStorage = (*pendinguploads.Store)(nil)
)

func newDouble() fourMethods { return fourMethods{records: map[uuid.UUID]pendinguploads.Record{}} }

func TestSeedCaller(t *testing.T) {
	t.Parallel()
	call := func(t *testing.T, uploads pendinguploads.Storage) {
		t.Helper()
		c, ws := seedCaller{uploads}, uuid.New()
		id, err := c.stage(t.Context(), ws, "a.txt", []byte("hello"))
		if err != nil {
			t.Fatal(err)
		}
		if content, err := c.fetch(t.Context(), ws, id); err != nil || string(content) != "hello" {
			t.Errorf("fetch: %q, %v", content, err)
		}
		wantErr(t, "ack of another workspace", c.ack(t.Context(), uuid.New(), id), pendinguploads.ErrNotFound)
		if err := c.ack(t.Context(), ws, id); err != nil {
			t.Errorf("ack: %v", err)
		}
		_, err = c.fetch(t.Context(), ws, id)
		wantErr(t, "fetch after ack", err, pendinguploads.ErrNotFound)
		_, err = c.stage(t.Context(), ws, "a.txt", make([]byte, pendinguploads.MaxFileBytes+1))
		wantErr(t, "a file above the cap", err, pendinguploads.ErrTooLarge)
	}
	t.Run("double", func(t *testing.T) {
		t.Parallel()
		d := newDouble()
		call(t, &d)
	})
	eachStore(t, func(t *testing.T, s store) { call(t, s.Store) })
}

// laterCaller stages what comes in one request in a transaction of its own.
type laterCaller struct {
	uploads pendinguploads.FullStorage
	begin   func(context.Context) (*sql.Tx, error) // nil for a double
}

func (c laterCaller) stage(ctx context.Context, ws uuid.UUID, items []pendinguploads.PutItem) (ids []uuid.UUID, err error) {
	if c.begin == nil {
		return c.uploads.PutBatchTx(ctx, nil, ws, items)
	}
	tx, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	if ids, err = c.uploads.PutBatchTx(ctx, tx, ws, items); err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	return ids, tx.Commit()
}

func TestLaterCaller(t *testing.T) {
	t.Parallel()
	files := []pendinguploads.PutItem{{Content: []byte("one"), Filename: "1.txt", Mimetype: "text/plain"}, {Content: []byte("two"), Filename: "2.bin"}}
	call := func(t *testing.T, c laterCaller) {
		t.Helper()
		ws := uuid.New()
		inTx, err := c.stage(t.Context(), ws, files)
		if err != nil {
			t.Fatal(err)
		}
		alone, err := c.uploads.PutBatch(t.Context(), ws, files)
		if err != nil {
			t.Fatal(err)
		}
		seed := seedCaller{c.uploads} // a FullStorage goes where a Storage is wanted
		for i, id := range append(inTx, alone...) {
			want := files[i%len(files)].Content
			if content, err := seed.fetch(t.Context(), ws, id); err != nil || string(content) != string(want) {
				t.Errorf("file %d: %q, want %q, %v", i, content, want, err)
			}
			if i == 0 {
				continue // stays
			}
			if err := c.uploads.Ack(t.Context(), id); err != nil {
				t.Errorf("ack of file %d: %v", i, err)
			}
		}
		if swept, err := c.uploads.Sweep(t.Context(), 0); err != nil || swept != (pendinguploads.SweepResult{Acked: 3}) || swept.Total() != 3 {
			t.Errorf("sweep: %+v, %v", swept, err)
		}
		if _, err := c.uploads.Get(t.Context(), inTx[0]); err != nil {
			t.Errorf("what was not acked: %v", err)
		}
	}
	t.Run("double", func(t *testing.T) {
		t.Parallel()
		call(t, laterCaller{uploads: &sevenMethods{newDouble()}})
	})
	eachStore(t, func(t *testing.T, s store) {
		call(t, laterCaller{s.Store, func(ctx context.Context) (*sql.Tx, error) { return s.db.BeginTx(ctx, nil) }})
	})
}

// A variable of a constructor has every method, without a name for its type.
func TestVariableOfConstructor(t *testing.T) {
	t.Parallel()
	db := openSQL(t, "postgres", referenceDatabase(t))
	uploads := pendinguploads.NewPostgres(db)
	ids, err := uploads.PutBatch(t.Context(), uuid.New(), []pendinguploads.PutItem{{Content: []byte("x"), Filename: "x"}})
	if err != nil || len(ids) != 1 {
		t.Fatalf("%v, %v", ids, err)
	}
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	undone, err := uploads.PutBatchTx(t.Context(), tx, uuid.New(), []pendinguploads.PutItem{{Content: []byte("y"), Filename: "y"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	_, err = uploads.Get(t.Context(), undone[0])
	wantErr(t, "what was rolled back", err, pendinguploads.ErrNotFound)
	if err := uploads.Ack(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	if swept, err := uploads.Sweep(t.Context(), 0); err != nil || swept.Total() != 1 {
		t.Errorf("sweep: %+v, %v", swept, err)
	}
}
