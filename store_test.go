package pendinguploads_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads"
	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/stagingtest"
	"github.com/molecule-ai/pendinguploads/storage"
)

// store is a Store under test with what it stands on.
type store struct {
	*pendinguploads.Store
	db      *sql.DB
	objects blob.Store // nil: inline
}

func openObjects(t *testing.T) blob.Store {
	t.Helper()
	pool, err := blob.NewPool(blob.PoolConfig{MaxWait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return stagingtest.OpenBucket(t, devstack.MinIO(t), pool).Store
}

// eachStore runs f for both constructors on both drivers.
func eachStore(t *testing.T, f func(t *testing.T, s store), opts ...pendinguploads.Option) {
	t.Helper()
	opts = append([]pendinguploads.Option{pendinguploads.WithLogger(slog.New(slog.DiscardHandler))}, opts...)
	for _, driver := range []string{"postgres", "pgx"} {
		t.Run("NewPostgres on "+driver, func(t *testing.T) {
			t.Parallel()
			db := openSQL(t, driver, referenceDatabase(t))
			f(t, store{pendinguploads.NewPostgres(db, opts...), db, nil})
		})
		t.Run("NewS3 on "+driver, func(t *testing.T) {
			t.Parallel()
			db, objects := openSQL(t, driver, migratedDatabase(t)), openObjects(t)
			f(t, store{pendinguploads.NewS3(db, objects, opts...), db, objects})
		})
	}
}

func (s store) put(t *testing.T, ws uuid.UUID, content []byte) uuid.UUID {
	t.Helper()
	id, err := s.Put(t.Context(), ws, content, "a.bin", "text/plain")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (s store) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := s.db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}

func (s store) rows(t *testing.T) int {
	t.Helper()
	var n int
	if err := s.db.QueryRowContext(t.Context(), `SELECT count(*) FROM pending_uploads`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func (s store) keys(t *testing.T) []string {
	t.Helper()
	if s.objects == nil {
		return nil
	}
	return stagingtest.Keys(t, s.objects)
}

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestPutAndGet(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, s store) {
		ws := uuid.New()
		for _, n := range []int{1, 4096, 6 * storage.MiB} {
			want := noise(n)
			id, err := s.Put(t.Context(), ws, want, `no safe name/ü"`, "Text/X-Odd; a=b")
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.Get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if r.FileID != id || r.WorkspaceID != ws || r.Filename != `no safe name/ü"` || r.Mimetype != "Text/X-Odd; a=b" ||
				r.SizeBytes != int64(n) || !bytes.Equal(r.Content, want) {
				t.Errorf("%d bytes: record %v of %v, %q, %q, %d bytes, right content %v", n, r.FileID, r.WorkspaceID, r.Filename,
					r.Mimetype, r.SizeBytes, bytes.Equal(r.Content, want))
			}
			if r.FetchedAt != nil || r.AckedAt != nil || r.ExpiresAt.Sub(r.CreatedAt) != 24*time.Hour || time.Since(r.CreatedAt).Abs() > time.Minute {
				t.Errorf("times: %v, %v, %v, %v", r.CreatedAt, r.FetchedAt, r.AckedAt, r.ExpiresAt)
			}
			s.wantOpens(t, id, want)
		}
		wantErr(t, "an id that is none", get(t, s, uuid.New()), pendinguploads.ErrNotFound)
		keys := s.keys(t)
		if s.objects != nil && len(keys) != 3 {
			t.Errorf("%d objects, want 3", len(keys))
		}
		for _, key := range keys {
			if !strings.HasPrefix(key, "pending-uploads/"+ws.String()+"/") {
				t.Errorf("object key %s", key)
			}
		}
	})
}

func get(t *testing.T, s store, id uuid.UUID) error {
	t.Helper()
	_, err := s.Get(t.Context(), id)
	return err
}

// wantOpens reads a file without its bytes in the record: from the record, and by
// its URL where it lies in an object.
func (s store) wantOpens(t *testing.T, id uuid.UUID, want []byte) {
	t.Helper()
	r, err := s.Lookup(t.Context(), id)
	if err != nil || r.Content != nil || r.SizeBytes != int64(len(want)) {
		t.Fatalf("Lookup: %d bytes of content, size %d, %v", len(r.Content), r.SizeBytes, err)
	}
	body, err := r.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(body)
	if err = errors.Join(err, body.Close()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("Open: %d bytes, %v", len(got), err)
	}
	url, expires, err := r.URL(t.Context(), time.Minute)
	if s.objects == nil {
		wantErr(t, "URL of inline content", err, pendinguploads.ErrNoURL)
		return
	}
	if err != nil || time.Until(expires) > time.Minute {
		t.Fatalf("URL until %v: %v", expires, err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	reply, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	got, err = io.ReadAll(reply.Body)
	if err = errors.Join(err, reply.Body.Close()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("URL: status %d, %d bytes, %v", reply.StatusCode, len(got), err)
	}
	if cd := reply.Header.Get("Content-Disposition"); !strings.HasPrefix(cd, "attachment; ") {
		t.Errorf("URL answers Content-Disposition %q", cd)
	}
}

// A record that no store made opens nothing.
func TestRecordOfNoStore(t *testing.T) {
	t.Parallel()
	var r pendinguploads.Record
	_, err := r.Open(t.Context())
	wantErr(t, "Open", err, pendinguploads.ErrNotFound)
	_, _, err = r.URL(t.Context(), time.Minute)
	wantErr(t, "URL", err, pendinguploads.ErrNoURL)
}

func TestPutReader(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, s store) {
		ws, want := uuid.New(), noise(300<<10)
		id, err := s.PutReader(t.Context(), ws, io.MultiReader(bytes.NewReader(want)), "a", "")
		if err != nil {
			t.Fatal(err)
		}
		s.wantOpens(t, id, want)
		broken := errors.New("connection reset")
		_, err = s.PutReader(t.Context(), ws, io.MultiReader(bytes.NewReader(want), failing{broken}), "a", "")
		wantErr(t, "a body that fails", err, broken)
		_, err = s.PutReader(t.Context(), ws, bytes.NewReader(noise(storage.MiB+1)), "a", "")
		wantErr(t, "a body above the cap", err, pendinguploads.ErrTooLarge)
		if n := s.rows(t); n != 1 || s.objects != nil && len(s.keys(t)) != 1 {
			t.Errorf("%d rows, objects %v", n, s.keys(t))
		}
	}, pendinguploads.WithMaxFileBytes(storage.MiB))
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// noDatabase is a connector that says so when it is asked for a connection.
type noDatabase struct{ t *testing.T }

func (n noDatabase) Connect(context.Context) (driver.Conn, error) {
	n.t.Error("the database was asked for a connection")
	return nil, errors.New("no database")
}

func (n noDatabase) Driver() driver.Driver { return nil }

// The rules of contract 3.1, in their order, before any database access.
func TestValidationComesFirst(t *testing.T) {
	t.Parallel()
	db := sql.OpenDB(noDatabase{t})
	defer func() { _ = db.Close() }()
	large := make([]byte, pendinguploads.MaxFileBytes+1)
	long := strings.Repeat("n", 101)
	stores := map[string]*pendinguploads.Store{"inline": pendinguploads.NewPostgres(db), "S3": pendinguploads.NewS3(db, openObjects(t))}
	for name, s := range stores {
		for _, c := range []struct {
			content  []byte
			filename string
			want     error
		}{
			{nil, "", storage.ErrEmpty},
			{[]byte{}, long, storage.ErrEmpty},
			{large, "", pendinguploads.ErrTooLarge},
			{large, long, pendinguploads.ErrTooLarge},
			{[]byte("x"), "", storage.ErrInvalidFilename},
			{[]byte("x"), long, storage.ErrInvalidFilename},
			{[]byte("x"), strings.Repeat("é", 51), storage.ErrInvalidFilename},
		} {
			what := fmt.Sprintf("%s: %d bytes, name of %d", name, len(c.content), len(c.filename))
			_, err := s.Put(t.Context(), uuid.New(), c.content, c.filename, "")
			wantErr(t, what, err, c.want)
			item := pendinguploads.PutItem{Content: c.content, Filename: c.filename}
			_, err = s.PutBatch(t.Context(), uuid.New(), []pendinguploads.PutItem{{Content: []byte("y"), Filename: "y"}, item})
			wantErr(t, what+" in a batch", err, c.want)
			if !strings.Contains(fmt.Sprint(err), "file 1 ") {
				t.Errorf("%s in a batch: the error does not name the item: %v", what, err)
			}
			_, err = s.PutBatchTx(t.Context(), &sql.Tx{}, uuid.New(), []pendinguploads.PutItem{item})
			wantErr(t, what+" in a transaction", err, c.want)
		}
		for _, batch := range [][]pendinguploads.PutItem{nil, {}} {
			if ids, err := s.PutBatch(t.Context(), uuid.New(), batch); len(ids) != 0 || err != nil {
				t.Errorf("%s: empty batch: %v, %v", name, ids, err)
			}
		}
		if _, err := s.PutBatchTx(t.Context(), nil, uuid.New(), nil); err == nil {
			t.Errorf("%s: no transaction is no error", name)
		}
	}
}

func TestBoundaries(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, s store) {
		for _, c := range []struct {
			content  []byte
			filename string
		}{{make([]byte, pendinguploads.MaxFileBytes), "a"}, {[]byte("x"), strings.Repeat("n", 100)}, {[]byte("x"), strings.Repeat("é", 50)}} {
			if _, err := s.Put(t.Context(), uuid.New(), c.content, c.filename, ""); err != nil {
				t.Errorf("%d bytes, name of %d: %v", len(c.content), len(c.filename), err)
			}
		}
	})
}

// The cap of the platform's own table is told as what it is.
func TestTableCap(t *testing.T) {
	t.Parallel()
	db := openSQL(t, "postgres", referenceDatabase(t))
	s := pendinguploads.NewPostgres(db, pendinguploads.WithMaxFileBytes(26<<20))
	_, err := s.Put(t.Context(), uuid.New(), make([]byte, pendinguploads.MaxFileBytes+1), "a", "")
	wantErr(t, "25 MiB + 1 on the reference table", err, pendinguploads.ErrTooLarge)
	if err := pendinguploads.Migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), uuid.New(), make([]byte, pendinguploads.MaxFileBytes+1), "a", ""); err != nil {
		t.Errorf("after Migrate: %v", err)
	}
}

func TestAckAndFetched(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, s store) {
		id := s.put(t, uuid.New(), noise(9))
		times := func() (fetched, acked *time.Time) {
			if err := s.db.QueryRowContext(t.Context(), `SELECT fetched_at, acked_at FROM pending_uploads WHERE file_id = $1`, id).Scan(&fetched, &acked); err != nil {
				t.Fatal(err)
			}
			return fetched, acked
		}
		for range 2 {
			before, _ := times()
			if err := s.MarkFetched(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if after, _ := times(); after == nil || before != nil && !after.After(*before) {
				t.Errorf("fetched %v, then %v", before, after)
			}
		}
		if r, err := s.Get(t.Context(), id); err != nil || r.FetchedAt == nil {
			t.Errorf("fetched %v, %v", r.FetchedAt, err)
		}
		if err := s.Ack(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		_, first := times()
		if err := s.Ack(t.Context(), id); err != nil {
			t.Errorf("second ack: %v", err)
		}
		if _, again := times(); !again.Equal(*first) {
			t.Errorf("acked %v, then %v", first, again)
		}
		wantErr(t, "Get after Ack", get(t, s, id), pendinguploads.ErrNotFound)
		wantErr(t, "MarkFetched after Ack", s.MarkFetched(t.Context(), id), pendinguploads.ErrNotFound)
		s.exec(t, `UPDATE pending_uploads SET expires_at = now() - interval '1 second'`)
		wantErr(t, "Ack of an acked file that expired", s.Ack(t.Context(), id), pendinguploads.ErrNotFound)
		wantErr(t, "Ack of none", s.Ack(t.Context(), uuid.New()), pendinguploads.ErrNotFound)
	})
}

func TestReadAfterAck(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, s store) {
		id := s.put(t, uuid.New(), []byte("still there"))
		if err := errors.Join(s.Ack(t.Context(), id), s.MarkFetched(t.Context(), id)); err != nil {
			t.Fatal(err)
		}
		r, err := s.Get(t.Context(), id)
		if err != nil || r.AckedAt == nil || r.FetchedAt == nil || string(r.Content) != "still there" {
			t.Errorf("%q, acked %v, fetched %v: %v", r.Content, r.AckedAt, r.FetchedAt, err)
		}
	}, pendinguploads.WithReadAfterAck())
}

// NewS3 reads what NewPostgres wrote, and NewPostgres says what it cannot read.
func TestDualRead(t *testing.T) {
	t.Parallel()
	db := openSQL(t, "postgres", migratedDatabase(t))
	inline, s3 := pendinguploads.NewPostgres(db), pendinguploads.NewS3(db, openObjects(t))
	ws := uuid.New()
	old, err := inline.Put(t.Context(), ws, []byte("inline"), "a", "")
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := s3.Put(t.Context(), ws, []byte("object"), "a", "")
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[uuid.UUID]string{old: "inline", fresh: "object"} {
		if r, err := s3.Get(t.Context(), id); err != nil || string(r.Content) != want {
			t.Errorf("%q, want %q: %v", r.Content, want, err)
		}
	}
	_, err = inline.Get(t.Context(), fresh)
	r, lookUp := inline.Lookup(t.Context(), fresh)
	if lookUp == nil {
		_, lookUp = r.Open(t.Context())
	}
	for how, err := range map[string]error{"Get": err, "Lookup and Open": lookUp} {
		if err == nil || errors.Is(err, pendinguploads.ErrNotFound) || !strings.Contains(err.Error(), "lies in an object") {
			t.Errorf("NewPostgres on content in an object, %s: %v", how, err)
		}
	}
}

func TestConstructorsNameWhatIsWrong(t *testing.T) {
	t.Parallel()
	db := sql.OpenDB(noDatabase{t})
	defer func() { _ = db.Close() }()
	objects := openObjects(t)
	for want, construct := range map[string]func(){
		"no database":     func() { pendinguploads.NewPostgres(nil) },
		"no object store": func() { pendinguploads.NewS3(db, nil) },
		"MAX_FILE_BYTES is 104857601, want 1 to 104857600": func() { pendinguploads.NewPostgres(db, pendinguploads.WithMaxFileBytes(100<<20+1)) },
		"INLINE_MAX_BYTES is -1":                           func() { pendinguploads.NewS3(db, objects, pendinguploads.WithInlineMaxBytes(-1)) },
		"S3_PREFIX":                                        func() { pendinguploads.NewS3(db, objects, pendinguploads.WithKeyPrefix("/a")) },
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, want) {
					t.Errorf("panic %q, want %q in it", got, want)
				}
			}()
			construct()
		}()
	}
}

// Tests of platforms compare records: with reflect, and with go-cmp, which would
// not look at fields that are not exported.
func TestRecordsCompare(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, s store) {
		id := s.put(t, uuid.New(), []byte("same"))
		if err := s.MarkFetched(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		one, err := s.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		two, err := s.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(one, two) {
			t.Errorf("differ: %+v, %+v", one, two)
		}
		if diff := cmp.Diff(one, two); diff != "" {
			t.Error(diff)
		}
		now := time.Now()
		for what, change := range map[string]func(r *pendinguploads.Record){
			"FileID":      func(r *pendinguploads.Record) { r.FileID = uuid.New() },
			"WorkspaceID": func(r *pendinguploads.Record) { r.WorkspaceID = uuid.New() },
			"Content":     func(r *pendinguploads.Record) { r.Content = nil },
			"Filename":    func(r *pendinguploads.Record) { r.Filename += "x" },
			"Mimetype":    func(r *pendinguploads.Record) { r.Mimetype += "x" },
			"SizeBytes":   func(r *pendinguploads.Record) { r.SizeBytes++ },
			"CreatedAt":   func(r *pendinguploads.Record) { r.CreatedAt = now },
			"FetchedAt":   func(r *pendinguploads.Record) { r.FetchedAt = nil },
			"AckedAt":     func(r *pendinguploads.Record) { r.AckedAt = &now },
			"ExpiresAt":   func(r *pendinguploads.Record) { r.ExpiresAt = now },
		} {
			other := two
			change(&other)
			if one.Equal(other) || other.Equal(one) {
				t.Errorf("another %s is equal", what)
			}
		}
	})
}
