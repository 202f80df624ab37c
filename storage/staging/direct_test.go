package staging_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/memblob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

// direct is a store for direct uploads whose clock can be moved.
type direct struct {
	*staging.Store
	objects *s3blob.Store
	skew    *atomic.Int64
}

// openDirect makes a store on a server; change has a say in its configuration.
func openDirect(t *testing.T, server devstack.S3, rows staging.Rows, change ...func(*staging.Config)) direct {
	t.Helper()
	pool, err := blob.NewPool(blob.PoolConfig{})
	if err != nil {
		t.Fatal(err)
	}
	objects, err := s3blob.Open(t.Context(), s3blob.Config{
		Bucket: server.Bucket, Region: server.Region, Endpoint: server.Endpoint, PathStyle: server.PathStyle, Pool: pool,
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, server.SessionToken),
	})
	if err != nil {
		t.Fatal(err)
	}
	d := direct{objects: objects, skew: &atomic.Int64{}}
	cfg := staging.Config{
		Rows: rows, Objects: objects, KeyPrefix: prefix, ReadPatience: 2 * time.Second,
		Now: func() time.Time { return time.Now().Add(time.Duration(d.skew.Load())) }, Logger: slog.New(slog.DiscardHandler),
	}
	for _, f := range change {
		f(&cfg)
	}
	if d.Store, err = staging.New(cfg); err != nil {
		t.Fatal(err)
	}
	return d
}

func directFile(name string, content []byte) storage.DirectFile {
	return storage.DirectFile{Filename: name, MIMEType: "text/x-test", Size: int64(len(content)), SHA256: sha256.Sum256(content)}
}

func (d direct) reserve(t *testing.T, ws storage.WorkspaceID, contents ...[]byte) ([]storage.DirectPut, []storage.DirectFile) {
	t.Helper()
	var files []storage.DirectFile
	for _, c := range contents {
		files = append(files, directFile("a.txt", c))
	}
	puts, err := d.ReserveDirect(t.Context(), ws, files, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range puts {
		files[i] = p.DirectFile
	}
	return puts, files
}

// send sends a reserved request the way anybody could, and returns the status.
func send(t *testing.T, p storage.DirectPut, content []byte, change ...func(*http.Request)) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), p.Method, p.URL, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range p.Header {
		req.Header[name] = values
	}
	for _, f := range change {
		f(req)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func mustSend(t *testing.T, p storage.DirectPut, content []byte) {
	t.Helper()
	if status := send(t, p, content); status != http.StatusOK {
		t.Fatalf("put: status %d", status)
	}
}

func read(t *testing.T, r storage.Record) []byte {
	t.Helper()
	rc, err := r.Content.Open(t.Context(), storage.Range{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rc.Close() }()
	got, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// wantFileError fails unless the error is about that file of the reservation.
func wantFileError(t *testing.T, err error, index int, want error) {
	t.Helper()
	var file *storage.FileError
	if !errors.As(err, &file) || file.Index != index || !errors.Is(err, want) {
		t.Errorf("%v, want file %d and %v", err, index, want)
	}
}

func TestDirectUploadIsStagedLikeAnyOther(t *testing.T) {
	t.Parallel()
	devstack.EachS3User(t, func(t *testing.T, server devstack.S3) {
		rows := newRows(t)
		d := openDirect(t, server, rows)
		ws := workspace(t)
		contents := [][]byte{[]byte("x"), bytes.Repeat([]byte("0123456789"), 600<<10)}
		puts, files := d.reserve(t, ws, contents...)
		for i, p := range puts {
			if p.Header.Get("If-None-Match") != "*" || time.Until(p.ExpiresAt) > time.Minute {
				t.Errorf("%v lacks the condition, or lives too long", p)
			}
			if _, err := d.Get(t.Context(), ws, p.FileID); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("before the commit: %v", err)
			}
			mustSend(t, p, contents[i])
		}
		records, err := d.CommitDirect(t.Context(), ws, files)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range records {
			got, err := d.Get(t.Context(), ws, files[i].FileID)
			if err != nil {
				t.Fatal(err)
			}
			if r.FileID != files[i].FileID || got.Filename != "a.txt" || got.MIMEType != "text/x-test" || got.Content.SHA256 != files[i].SHA256 {
				t.Errorf("record %d is %+v", i, got)
			}
			if !bytes.Equal(read(t, r), contents[i]) || !bytes.Equal(read(t, got), contents[i]) {
				t.Errorf("content %d differs", i)
			}
		}
		// The life goes on like that of any other upload.
		if err := d.Ack(t.Context(), ws, files[0].FileID); err != nil {
			t.Error(err)
		}
		if swept, err := d.Sweep(t.Context(), -time.Second, 10); err != nil || swept.Acked != 1 {
			t.Errorf("swept %+v, %v", swept, err)
		}
		if keys := keysOf(t, d.objects); len(keys) != 1 {
			t.Errorf("objects %v, want the one that waits", keys)
		}
	})
}

// What the holder of a reservation can do with it, before the commit and after.
func TestDirectPutWritesOneContentUnderOneKey(t *testing.T) {
	t.Parallel()
	devstack.EachS3User(t, func(t *testing.T, server devstack.S3) {
		d := openDirect(t, server, newRows(t))
		ws := workspace(t)
		content, other := []byte("the content"), []byte("otherwise..")
		puts, files := d.reserve(t, ws, content)
		p := puts[0]
		key := prefix + "/" + ws.String() + "/" + p.FileID.String()
		attempts := func(when string) {
			for name, attempt := range map[string]struct {
				content []byte
				change  func(*http.Request)
			}{
				"other bytes": {other, nil},
				"fewer bytes": {content[:5], nil},
				"more bytes":  {append([]byte("xx"), content...), nil},
				"another digest": {other, func(r *http.Request) {
					r.Header.Set("X-Amz-Checksum-Sha256", "LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=")
				}},
				"no digest":    {other, func(r *http.Request) { r.Header.Del("X-Amz-Checksum-Sha256") }},
				"no condition": {content, func(r *http.Request) { r.Header.Del("If-None-Match") }},
				"another type": {content, func(r *http.Request) { r.Header.Set("Content-Type", "text/html") }},
				"another file": {content, func(r *http.Request) {
					r.URL.Path = strings.Replace(r.URL.Path, p.FileID.String(), storage.FileID(workspace(t)).String(), 1)
				}},
				"another workspace": {content, func(r *http.Request) { r.URL.Path = strings.Replace(r.URL.Path, ws.String(), workspace(t).String(), 1) }},
				"another method":    {nil, func(r *http.Request) { r.Method = http.MethodDelete }},
				"to read":           {nil, func(r *http.Request) { r.Method = http.MethodGet }},
				"in parts":          {nil, func(r *http.Request) { r.Method = http.MethodPost; r.URL.RawQuery += "&uploads=" }},
			} {
				change := attempt.change
				if change == nil {
					change = func(*http.Request) {}
				}
				if status := send(t, p, attempt.content, change); status < 400 || status >= 500 {
					t.Errorf("%s, %s: status %d, want a refusal", when, name, status)
				}
			}
		}
		attempts("before")
		if keys := keysOf(t, d.objects); len(keys) != 0 {
			t.Fatalf("objects %v", keys)
		}
		mustSend(t, p, content)
		if _, err := d.CommitDirect(t.Context(), ws, files); err != nil {
			t.Fatal(err)
		}
		attempts("after")
		if status := send(t, p, content); status != http.StatusPreconditionFailed {
			t.Errorf("the same again: status %d, want 412", status)
		}
		r, err := d.Get(t.Context(), ws, p.FileID)
		if err != nil || !bytes.Equal(read(t, r), content) {
			t.Errorf("the content changed, %v", err)
		}
		if diff := cmp.Diff([]string{key}, keysOf(t, d.objects)); diff != "" {
			t.Error(diff)
		}
	})
}

// supporting is a store of which something else is said than what it can do.
type supporting struct {
	*s3blob.Store
	say func(ctx context.Context, dir string) (blob.DirectSupport, error)
}

func (s supporting) DirectSupport(ctx context.Context, dir string) (blob.DirectSupport, error) {
	return s.say(ctx, dir)
}

// says has the store's support told by f.
func says(f func(ctx context.Context, dir string) (blob.DirectSupport, error)) func(*staging.Config) {
	return func(c *staging.Config) { c.Objects = supporting{c.Objects.(*s3blob.Store), f} }
}

// unconditional is the support of a store without conditional writes.
func unconditional(context.Context, string) (blob.DirectSupport, error) {
	return blob.DirectSupport{Checksum: true}, nil
}

// A store without conditional writes: the signed digest lets the same bytes in
// again, and no others, nor as if they were encoded.
func TestDirectPutWithoutConditionsWritesTheSameBytesOnly(t *testing.T) {
	t.Parallel()
	devstack.EachS3User(t, func(t *testing.T, server devstack.S3) {
		d := openDirect(t, server, newRows(t), says(unconditional))
		ws := workspace(t)
		puts, files := d.reserve(t, ws, []byte("hello"))
		if puts[0].Header.Get("If-None-Match") != "" {
			t.Error("there is a condition")
		}
		mustSend(t, puts[0], []byte("hello"))
		if _, err := d.CommitDirect(t.Context(), ws, files); err != nil {
			t.Fatal(err)
		}
		mustSend(t, puts[0], []byte("hello"))
		if status := send(t, puts[0], []byte("HELLO")); status != http.StatusBadRequest {
			t.Errorf("other bytes: status %d, want 400", status)
		}
		for _, encoding := range []string{"gzip", ""} {
			if status := send(t, puts[0], []byte("hello"), func(r *http.Request) { r.Header.Set("Content-Encoding", encoding) }); status != http.StatusForbidden {
				t.Errorf("with the encoding %q: status %d, want 403", encoding, status)
			}
		}
		if r, err := d.Get(t.Context(), ws, files[0].FileID); err != nil || string(read(t, r)) != "hello" {
			t.Errorf("the content changed, %v", err)
		}
	})
}

func TestDirectCommitComparesWhatIsThere(t *testing.T) {
	t.Parallel()
	devstack.EachS3User(t, func(t *testing.T, server devstack.S3) {
		d := openDirect(t, server, newRows(t))
		ws := workspace(t)
		puts, files := d.reserve(t, ws, []byte("first"), []byte("second"))
		key := prefix + "/" + ws.String() + "/" + files[1].FileID.String()
		// beside puts an object past the reservation, without its SHA-256.
		beside := func(content string) {
			t.Helper()
			if err := d.objects.Put(t.Context(), key, strings.NewReader(content), blob.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		commit := func() error {
			_, err := d.CommitDirect(t.Context(), ws, files)
			return err
		}
		wantFileError(t, commit(), 0, storage.ErrNotUploaded)
		mustSend(t, puts[0], []byte("first"))
		wantFileError(t, commit(), 1, storage.ErrNotUploaded)
		beside("SECOND")
		wantFileError(t, commit(), 1, storage.ErrMismatch)
		beside("secon")
		wantFileError(t, commit(), 1, storage.ErrMismatch)
		if _, err := d.Stat(t.Context(), ws, files[0].FileID); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("a part of the reservation was committed: %v", err)
		}
		beside("second")
		if err := commit(); err != nil {
			t.Errorf("what is there is right: %v", err)
		}
		// Another workspace cannot commit them.
		if _, err := d.CommitDirect(t.Context(), workspace(t), files); !errors.Is(err, storage.ErrNotUploaded) {
			t.Errorf("files of another workspace: %v", err)
		}
	})
}

// gated holds insertions up until all of those expected have come.
type gated struct {
	*metadata.Uploads
	arrived chan<- struct{}
	open    <-chan struct{}
}

func (g gated) Insert(ctx context.Context, ws storage.WorkspaceID, uploads []metadata.NewUpload) ([]storage.Record, error) {
	g.arrived <- struct{}{}
	<-g.open
	return g.Uploads.Insert(ctx, ws, uploads)
}

// Two replicas commit the same reservation; both have found that nothing is
// committed and everything is there, and then go on together.
func TestDirectCommitsAtTheSameTimeAreOne(t *testing.T) {
	t.Parallel()
	server := devstack.MinIOUser(t)
	db := openDB(t)
	rows := metadata.NewUploads(metadata.UploadsConfig{DB: db})
	arrived, open := make(chan struct{}), make(chan struct{})
	ws := workspace(t)
	const commits = 4
	var replicas []direct
	for range commits {
		replicas = append(replicas, openDirect(t, server, gated{rows, arrived, open}))
	}
	puts, files := replicas[0].reserve(t, ws, []byte("first"), []byte("second"))
	mustSend(t, puts[0], []byte("first"))
	mustSend(t, puts[1], []byte("second"))

	type outcome struct {
		records []storage.Record
		err     error
	}
	outcomes := make(chan outcome)
	for _, r := range replicas {
		go func() {
			records, err := r.CommitDirect(context.WithoutCancel(t.Context()), ws, files)
			outcomes <- outcome{records, err}
		}()
	}
	for range commits {
		<-arrived
	}
	close(open)
	var want []storage.Record
	for range commits {
		got := <-outcomes
		if got.err != nil || len(got.records) != 2 {
			t.Errorf("%d records, %v", len(got.records), got.err)
			continue
		}
		for i := range got.records {
			got.records[i].Content.Opener, got.records[i].Content.Signer = nil, nil
		}
		if want == nil {
			want = got.records
		}
		if diff := cmp.Diff(want, got.records); diff != "" {
			t.Errorf("the answers differ: %s", diff)
		}
	}
	var n int
	if err := db.QueryRow(t.Context(), "SELECT count(*) FROM pending_uploads").Scan(&n); err != nil || n != 2 {
		t.Errorf("%d rows, %v", n, err)
	}
}

func TestDirectCommitCanBeRepeated(t *testing.T) {
	t.Parallel()
	server := devstack.MinIOUser(t)
	rows := newRows(t)
	ws := workspace(t)
	d := openDirect(t, server, rows)
	puts, files := d.reserve(t, ws, []byte("first"), []byte("second"))
	mustSend(t, puts[0], []byte("first"))
	mustSend(t, puts[1], []byte("second"))

	// The connection breaks at the commit, which did not take effect: the objects
	// stay, and the next call does it. Then one whose answer alone is lost.
	if _, err := openDirect(t, server, lossy{rows, false}).CommitDirect(t.Context(), ws, files); !errors.Is(err, metadata.ErrCommitUnknown) {
		t.Fatalf("%v, want ErrCommitUnknown", err)
	}
	first, err := openDirect(t, server, lossy{rows, true}).CommitDirect(t.Context(), ws, files)
	if err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"again", "after an ack"} {
		got, err := d.CommitDirect(t.Context(), ws, files)
		if err != nil || len(got) != 2 || got[1].FileID != first[1].FileID || !got[0].CreatedAt.Equal(first[0].CreatedAt) {
			t.Errorf("%s: %+v, %v", when, got, err)
		}
		if err := d.Ack(t.Context(), ws, files[0].FileID); err != nil {
			t.Error(err)
		}
	}
	// One of the two is swept; the other waits.
	if swept, err := d.Sweep(t.Context(), -time.Second, 10); err != nil || swept.Acked != 1 {
		t.Fatal(swept, err)
	}
	if _, err := d.CommitDirect(t.Context(), ws, files); !errors.Is(err, storage.ErrCommitted) {
		t.Errorf("after a sweep: %v, want ErrCommitted", err)
	}
	if _, err := d.Get(t.Context(), ws, files[1].FileID); err != nil {
		t.Errorf("the other file: %v", err)
	}
}

func TestWhatIsNotCommittedIsAnOrphan(t *testing.T) {
	t.Parallel()
	devstack.EachS3User(t, func(t *testing.T, server devstack.S3) {
		d := openDirect(t, server, newRows(t))
		ws := workspace(t)
		puts, files := d.reserve(t, ws, []byte("committed"))
		lost, lostFiles := d.reserve(t, ws, []byte("lost"))
		mustSend(t, puts[0], []byte("committed"))
		mustSend(t, lost[0], []byte("lost"))
		if _, err := d.CommitDirect(t.Context(), ws, files); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			later time.Duration
			swept int
			left  int
		}{{0, 0, 2}, {59 * time.Minute, 0, 2}, {61 * time.Minute, 1, 1}, {3 * time.Hour, 0, 1}} {
			d.skew.Store(int64(step.later))
			if swept, err := d.SweepOrphans(t.Context(), time.Hour); err != nil || swept.Objects != step.swept {
				t.Errorf("%v later: swept %+v, %v", step.later, swept, err)
			}
			if keys := keysOf(t, d.objects); len(keys) != step.left {
				t.Errorf("%v later: objects %v", step.later, keys)
			}
		}
		if _, err := d.CommitDirect(t.Context(), ws, lostFiles); !errors.Is(err, storage.ErrReservationExpired) {
			t.Errorf("commit of what was swept: %v, want ErrReservationExpired", err)
		}
	})
}

// The commit begins in the reservation's last second and takes all the time it
// may; an orphan sweep with the shortest grace period there is looks at every
// stage of it.
func TestOrphanSweepsLeaveACommitAlone(t *testing.T) {
	t.Parallel()
	const maxUpload, grace = 10 * time.Minute, 10*time.Minute + 21*time.Second
	arrived, open := make(chan struct{}), make(chan struct{})
	d := openDirect(t, devstack.MinIOUser(t), gated{newRows(t), arrived, open}, func(c *staging.Config) { c.MaxUploadTime = maxUpload })
	ws := workspace(t)
	puts, files := d.reserve(t, ws, []byte("hello"))
	mustSend(t, puts[0], []byte("hello"))
	sweep := func(when string) {
		t.Helper()
		if swept, err := d.SweepOrphans(t.Context(), grace); err != nil || swept.Total() != 0 {
			t.Errorf("%s: swept %+v, %v", when, swept, err)
		}
	}
	d.skew.Store(int64(maxUpload - 2*time.Second))
	sweep("before the commit")
	done := make(chan error)
	go func() {
		_, err := d.CommitDirect(context.WithoutCancel(t.Context()), ws, files)
		done <- err
	}()
	<-arrived
	d.skew.Add(int64(15 * time.Second))
	sweep("while the rows are inserted")
	close(open)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	d.skew.Add(int64(time.Hour))
	sweep("afterwards")
	if r, err := d.Get(t.Context(), ws, files[0].FileID); err != nil || string(read(t, r)) != "hello" {
		t.Errorf("the content: %v", err)
	}
}

// suspending sleeps for a while, as the host does, when it is asked about an
// object. The timers sleep too.
type suspending struct {
	*s3blob.Store
	sleep func()
}

func (s suspending) Head(ctx context.Context, key string) (blob.Info, error) {
	info, err := s.Store.Head(ctx, key)
	s.sleep()
	return info, err
}

func TestADirectCommitThatWasSuspendedStagesNothing(t *testing.T) {
	t.Parallel()
	rows := newRows(t)
	server := devstack.MinIOUser(t)
	ws := workspace(t)
	var d direct
	d = openDirect(t, server, rows, func(c *staging.Config) {
		c.Objects = suspending{c.Objects.(*s3blob.Store), func() { d.skew.Add(int64(2 * time.Hour)) }}
	})
	puts, files := d.reserve(t, ws, []byte("hello"))
	mustSend(t, puts[0], []byte("hello"))
	if _, err := d.CommitDirect(t.Context(), ws, files); !errors.Is(err, storage.ErrReservationExpired) {
		t.Errorf("%v, want ErrReservationExpired", err)
	}
	if missing, err := rows.Missing(t.Context(), []metadata.UploadID{{Workspace: ws, File: files[0].FileID}}); err != nil || len(missing) != 1 {
		t.Errorf("a row was committed, %v", err)
	}
}

func TestDirectReservationsAreLimited(t *testing.T) {
	t.Parallel()
	d := openDirect(t, devstack.MinIOUser(t), newRows(t))
	ws := workspace(t)
	good := directFile("a", []byte("x"))
	with := func(change func(*storage.DirectFile)) []storage.DirectFile {
		f := good
		change(&f)
		return []storage.DirectFile{good, f}
	}
	for name, c := range map[string]struct {
		files []storage.DirectFile
		want  error
	}{
		"empty":          {with(func(f *storage.DirectFile) { f.Size = 0 }), storage.ErrEmpty},
		"negative":       {with(func(f *storage.DirectFile) { f.Size = -1 }), storage.ErrEmpty},
		"too large":      {with(func(f *storage.DirectFile) { f.Size = storage.DefaultMaxFileBytes + 1 }), storage.ErrTooLarge},
		"no name":        {with(func(f *storage.DirectFile) { f.Filename = "" }), storage.ErrInvalidFilename},
		"too long":       {with(func(f *storage.DirectFile) { f.Filename = strings.Repeat("x", 101) }), storage.ErrInvalidFilename},
		"without digest": {with(func(f *storage.DirectFile) { f.SHA256 = storage.Digest{} }), nil},
	} {
		puts, err := d.ReserveDirect(t.Context(), ws, c.files, time.Minute)
		if c.want == nil {
			c.want = err
		}
		wantFileError(t, err, 1, c.want)
		if len(puts) != 0 {
			t.Errorf("%s: %v", name, puts)
		}
	}
	many := make([]storage.DirectFile, 65)
	for i := range many {
		many[i] = good
	}
	if _, err := d.ReserveDirect(t.Context(), ws, many, time.Minute); !errors.Is(err, storage.ErrTooManyFiles) {
		t.Errorf("65 files: %v", err)
	}
	// 64 of the largest are more than any request through the service may carry.
	for i := range many {
		many[i].Size = storage.DefaultMaxFileBytes
	}
	puts, err := d.ReserveDirect(t.Context(), ws, many[:64], 24*time.Hour)
	if err != nil || len(puts) != 64 {
		t.Fatalf("64 files: %d, %v", len(puts), err)
	}
	if left := time.Until(puts[0].ExpiresAt); left > 30*time.Minute || left < 29*time.Minute {
		t.Errorf("it lives for %v, want no more than what may be committed", left)
	}
	if _, err := d.CommitDirect(t.Context(), ws, []storage.DirectFile{{FileID: storage.FileID{1}, Filename: "a"}}); !errors.Is(err, storage.ErrInvalidID) {
		t.Errorf("an id that was not reserved: %v", err)
	}
	if records, err := d.CommitDirect(t.Context(), ws, nil); len(records) != 0 || err != nil {
		t.Errorf("no files: %v, %v", records, err)
	}
}

func TestStoresThatCannotBeWrittenToHaveNoDirectUpload(t *testing.T) {
	t.Parallel()
	rows := newRows(t)
	pool, err := blob.NewPool(blob.PoolConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]staging.Config{
		"inline":    {Rows: rows, Budget: pool},
		"in memory": {Rows: rows, Objects: memblob.New()},
	} {
		s, err := staging.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.ReserveDirect(t.Context(), workspace(t), []storage.DirectFile{directFile("a", []byte("x"))}, time.Minute); !errors.Is(err, storage.ErrNoDirect) {
			t.Errorf("%s: reserve: %v", name, err)
		}
		if _, err := s.CommitDirect(t.Context(), workspace(t), []storage.DirectFile{directFile("a", []byte("x"))}); !errors.Is(err, storage.ErrNoDirect) {
			t.Errorf("%s: commit: %v", name, err)
		}
	}
}

func TestAReservationShowsNoURLWhenItIsPrinted(t *testing.T) {
	t.Parallel()
	p := storage.DirectPut{URL: "https://secret", Header: http.Header{"X-Secret": {"secret"}}}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "put", p)
	for _, text := range []string{p.String(), p.GoString(), log.String()} {
		if strings.Contains(strings.ToLower(text), "secret") {
			t.Error(text)
		}
	}
}
