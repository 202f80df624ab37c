package staging_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
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
	one := storage.DirectRequest{URL: "https://secret", Header: http.Header{"X-Secret": {"secret"}}}
	p := storage.DirectPut{DirectRequest: one, PartRequests: []storage.DirectRequest{one}}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "put", p, "one", one)
	for _, text := range []string{p.String(), p.GoString(), one.String(), fmt.Sprintf("%v %+v %#v", p, p.PartRequests, p.PartRequests), log.String()} {
		if strings.Contains(strings.ToLower(text), "secret") {
			t.Error(text)
		}
	}
}
