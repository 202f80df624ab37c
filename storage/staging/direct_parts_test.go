package staging_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

// tail is what a file in parts has beyond storage.DirectPartsFrom: its last part,
// if the size of parts divides that.
const tail = 1000

// large is the content of a file that can be sent in parts.
var large = sync.OnceValue(func() []byte {
	return bytes.Repeat([]byte("0123456789abcdefghij"), (storage.DirectPartsFrom+tail)/20+1)[:storage.DirectPartsFrom+tail]
})

// partsFile asks for the parts of content.
func partsFile(content []byte, partSize int) storage.DirectFile {
	f := directFile("large.bin", content)
	f.Parts = &storage.DirectParts{Size: int64(partSize)}
	for rest := content; len(rest) > 0; {
		n := min(partSize, len(rest))
		f.Parts.SHA256 = append(f.Parts.SHA256, sha256.Sum256(rest[:n]))
		rest = rest[n:]
	}
	return f
}

// takesLarge raises the per-file cap to the ceiling.
func takesLarge(c *staging.Config) {
	c.Limits = storage.Limits{MaxFileBytes: storage.MaxFileBytesCeiling, MaxRequestBytes: 2 * storage.MaxFileBytesCeiling}
}

// reserveParts reserves large in parts of that size.
func (d direct) reserveParts(t *testing.T, ws storage.WorkspaceID, partSize int) (storage.DirectPut, []storage.DirectFile) {
	t.Helper()
	puts, err := d.ReserveDirect(t.Context(), ws, []storage.DirectFile{partsFile(large(), partSize)}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if p := puts[0]; p.Parts == nil || len(p.PartRequests) != len(p.Parts.SHA256) || p.URL != "" {
		t.Fatalf("%v has %d part requests", p, len(p.PartRequests))
	}
	return puts[0], []storage.DirectFile{puts[0].DirectFile}
}

// part is the request of a part, as if it were of a file.
func part(p storage.DirectPut, i int) (put storage.DirectPut, content []byte) {
	offset, n := p.Parts.Span(i, p.Size)
	return storage.DirectPut{DirectRequest: p.PartRequests[i]}, large()[offset : offset+n]
}

func mustSendPart(t *testing.T, p storage.DirectPut, i int) {
	t.Helper()
	one, content := part(p, i)
	mustSend(t, one, content)
}

// What the holder of a part's request can do with it: nothing but to send that
// part, neither before the commit nor after it.
func TestDirectPartWritesOneContentInOnePlace(t *testing.T) {
	t.Parallel()
	devstack.EachS3User(t, func(t *testing.T, server devstack.S3) {
		d := openDirect(t, server, newRows(t), takesLarge)
		ws, other := workspace(t), workspace(t)
		theirs := []byte("their bytes")
		rec, err := d.Put(t.Context(), other, storage.Upload{Filename: "b.txt", MIMEType: "text/plain", Body: bytes.NewReader(theirs)})
		if err != nil {
			t.Fatal(err)
		}
		p, files := d.reserveParts(t, ws, storage.DirectPartBytes)
		their, theirFiles := d.reserveParts(t, other, storage.DirectPartBytes)
		last := len(p.PartRequests) - 1
		one, content := part(p, last)
		key, theirKey := prefix+"/"+ws.String()+"/"+p.FileID.String(), prefix+"/"+other.String()+"/"+rec.FileID.String()
		source := server.Bucket + "/" + theirKey

		header := func(pairs ...string) func(*http.Request) {
			return func(r *http.Request) {
				for i := 0; i < len(pairs); i += 2 {
					r.Header.Set(pairs[i], pairs[i+1])
				}
			}
		}
		query := func(pairs ...string) func(*http.Request) {
			return func(r *http.Request) {
				q := r.URL.Query()
				for i := 0; i < len(pairs); i += 2 {
					q.Set(pairs[i], pairs[i+1])
				}
				r.URL.RawQuery = q.Encode()
			}
		}
		method := func(m string, change ...func(*http.Request)) func(*http.Request) {
			return func(r *http.Request) {
				r.Method = m
				for _, f := range change {
					f(r)
				}
			}
		}
		withoutNumber := func(r *http.Request) {
			q := r.URL.Query()
			q.Del("partNumber")
			r.URL.RawQuery = q.Encode()
		}
		chunks := func(change ...func(*http.Request)) func(*http.Request) {
			return func(r *http.Request) {
				forge(r, key, key)
				for _, f := range change {
					f(r)
				}
			}
		}
		unsigned := func(pairs ...string) func(*http.Request) {
			return func(r *http.Request) {
				r.URL.RawQuery = url.Values{"uploadId": {p.Parts.UploadID}}.Encode()
				query(pairs...)(r)
			}
		}
		elsewhere := func(r *http.Request) {
			r.URL.Path = strings.Replace(r.URL.Path, key, prefix+"/"+other.String()+"/"+their.FileID.String(), 1)
		}
		wrong := bytes.Repeat([]byte("x"), len(content))
		type attack struct {
			content []byte
			change  func(*http.Request)
		}
		attacks := map[string]attack{
			"a copy":                  {content, header("X-Amz-Copy-Source", source)},
			"a copy, escaped":         {content, header("X-Amz-Copy-Source", "/"+strings.ReplaceAll(source, "/", "%2F"))},
			"a copy of a range":       {content, header("X-Amz-Copy-Source", source, "X-Amz-Copy-Source-Range", "bytes=0-4")},
			"a copy of no bytes":      {nil, header("X-Amz-Copy-Source", source)},
			"in chunks":               {nil, chunks()},
			"in chunks, another part": {nil, chunks(query("partNumber", "1"))},
			"in chunks, another file": {nil, chunks(elsewhere, query("uploadId", their.Parts.UploadID))},
			"in chunks, a whole file": {nil, chunks(func(r *http.Request) { r.URL.RawQuery = "" })},
			"another part":            {content, query("partNumber", "1")},
			"a new part":              {content, query("partNumber", "6")},
			"another upload":          {content, query("uploadId", their.Parts.UploadID)},
			"another file's upload":   {content, func(r *http.Request) { elsewhere(r); query("uploadId", their.Parts.UploadID)(r) }},
			"other bytes":             {wrong, nil},
			"fewer bytes":             {content[:10], nil},
			"more bytes":              {large()[:tail+1], nil},
			"another digest":          {wrong, header("X-Amz-Checksum-Sha256", "LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=")},
			"no digest":               {wrong, func(r *http.Request) { r.Header.Del("X-Amz-Checksum-Sha256") }},
			"a whole file": {content, func(r *http.Request) {
				withoutNumber(r)
				r.URL.RawQuery = strings.ReplaceAll(r.URL.RawQuery, "uploadId", "x")
			}},
			"to list":                  {nil, method(http.MethodGet, withoutNumber)},
			"to complete":              {[]byte("<CompleteMultipartUpload/>"), method(http.MethodPost, withoutNumber)},
			"to complete as it is":     {[]byte("<CompleteMultipartUpload/>"), method(http.MethodPost)},
			"to abort":                 {nil, method(http.MethodDelete, withoutNumber)},
			"to abort as it is":        {nil, method(http.MethodDelete)},
			"the upload id: a part":    {content, unsigned("partNumber", "5")},
			"the upload id: to list":   {nil, method(http.MethodGet, unsigned())},
			"the upload id: to finish": {[]byte("<CompleteMultipartUpload/>"), method(http.MethodPost, unsigned())},
			"the upload id: to abort":  {nil, method(http.MethodDelete, unsigned())},
		}
		attempt := func(when string) {
			for name, a := range attacks {
				change := a.change
				if change == nil {
					change = func(*http.Request) {}
				}
				if status := send(t, one, a.content, change); status < 400 || status >= 500 {
					t.Errorf("%s, %s: status %d, want a refusal", when, name, status)
				}
			}
		}
		for i := range last {
			mustSendPart(t, p, i)
		}
		attempt("before")
		if _, err := d.CommitDirect(t.Context(), ws, files); !errors.Is(err, storage.ErrNotUploaded) {
			t.Errorf("without the last part: %v, want ErrNotUploaded", err)
		}
		if _, err := d.CommitDirect(t.Context(), other, theirFiles); !errors.Is(err, storage.ErrNotUploaded) {
			t.Errorf("of another: %v, want ErrNotUploaded", err)
		}
		got, want := keysOf(t, d.objects), []string{
			theirKey, key + " (unfinished)", prefix + "/" + other.String() + "/" + their.FileID.String() + " (unfinished)",
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("objects before the commit: %s", diff)
		}
		// What else may be said of a part changes nothing, whether it is taken or not.
		for name, change := range map[string]func(*http.Request){
			"for everybody":   header("X-Amz-Acl", "public-read"),
			"tags":            header("X-Amz-Tagging", "a=b"),
			"meta data":       header("X-Amz-Meta-A", "b"),
			"a cheaper class": header("X-Amz-Storage-Class", "REDUCED_REDUNDANCY"),
			"an encoding":     header("Content-Encoding", "gzip"),
			"a type":          header("Content-Type", "text/html"),
		} {
			if status := send(t, one, content, change); status >= 500 && status != http.StatusNotImplemented {
				t.Errorf("%s: status %d", name, status)
			}
		}
		mustSendPart(t, p, last)
		if _, err := d.CommitDirect(t.Context(), ws, files); err != nil {
			t.Fatal(err)
		}
		d.wantContent(t, "after the commit", ws, p.FileID, large())
		attempt("after")
		if status := send(t, one, content); status < 400 || status >= 500 {
			t.Errorf("the part again: status %d, want a refusal", status)
		}
		d.wantContent(t, "after it all", ws, p.FileID, large())
		d.wantContent(t, "theirs", other, rec.FileID, theirs)
		if info, err := d.objects.Head(t.Context(), key); err != nil || info.ContentType != "text/x-test" {
			t.Errorf("the object is %+v, %v", info, err)
		}
	})
}

// completing holds the calls that make an object of parts until all expected ones
// have come: every commit has found by then that the object is not there.
type completing struct {
	*s3blob.Store
	arrived chan<- struct{}
	open    <-chan struct{}
}

func (c completing) CompleteParts(ctx context.Context, key, uploadID string, parts []blob.Part, opts blob.CompleteOptions) error {
	c.arrived <- struct{}{}
	<-c.open
	return c.Store.CompleteParts(ctx, key, uploadID, parts, opts)
}

// Replicas commit the same parts, all of which are there, and all go on to make
// the object of them.
func TestDirectCommitsOfPartsAreOne(t *testing.T) {
	t.Parallel()
	devstack.EachS3User(t, func(t *testing.T, server devstack.S3) {
		db := openDB(t)
		rows := metadata.NewUploads(metadata.UploadsConfig{DB: db})
		arrived, open := make(chan struct{}), make(chan struct{})
		const commits = 3
		var replicas []direct
		for range commits {
			replicas = append(replicas, openDirect(t, server, rows, takesLarge, func(c *staging.Config) {
				c.Objects, c.ReadPatience = completing{c.Objects.(*s3blob.Store), arrived, open}, time.Minute
			}))
		}
		ws := workspace(t)
		p, files := replicas[0].reserveParts(t, ws, storage.DirectPartsFrom)
		for i := range p.PartRequests {
			mustSendPart(t, p, i)
		}
		outcomes := make(chan error, commits)
		created := make(chan time.Time, commits)
		for _, r := range replicas {
			go func() {
				records, err := r.CommitDirect(context.WithoutCancel(t.Context()), ws, files)
				if err == nil {
					created <- records[0].CreatedAt
				}
				outcomes <- err
			}()
		}
		for range commits {
			<-arrived
		}
		close(open)
		for range commits {
			if err := <-outcomes; err != nil {
				t.Error(err)
			}
		}
		close(created)
		first, ok := <-created
		for other := range created {
			if !ok || !other.Equal(first) {
				t.Errorf("the answers differ: staged at %v and at %v", first, other)
			}
		}
		var n int
		if err := db.QueryRow(t.Context(), "SELECT count(*) FROM pending_uploads").Scan(&n); err != nil || n != 1 {
			t.Errorf("%d rows, %v", n, err)
		}
		if keys := keysOf(t, replicas[0].objects); len(keys) != 1 {
			t.Errorf("objects %v, want one", keys)
		}
		replicas[0].wantContent(t, "after all", ws, p.FileID, large())
	})
}

// The whole file's SHA-256 is not that of any part: it is compared by reading.
func TestDirectCommitOfPartsComparesTheWhole(t *testing.T) {
	t.Parallel()
	devstack.EachS3User(t, func(t *testing.T, server devstack.S3) {
		rows := newRows(t)
		d := openDirect(t, server, rows, takesLarge)
		ws := workspace(t)
		p, files := d.reserveParts(t, ws, storage.DirectPartsFrom)
		for i := range p.PartRequests {
			mustSendPart(t, p, i)
		}
		lied := []storage.DirectFile{files[0]}
		lied[0].SHA256[0]++
		for range 2 { // made of its parts by the first, found by the second
			_, err := d.CommitDirect(t.Context(), ws, lied)
			wantFileError(t, err, 0, storage.ErrMismatch)
		}
		if _, err := d.Stat(t.Context(), ws, p.FileID); !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("it was staged: %v", err)
		}
		swapped := []storage.DirectFile{files[0]}
		parts := *files[0].Parts
		parts.SHA256 = []storage.Digest{parts.SHA256[1], parts.SHA256[0]}
		swapped[0].Parts = &parts
		if _, err := d.CommitDirect(t.Context(), ws, swapped); server.Name == "minio" && !errors.Is(err, storage.ErrMismatch) {
			t.Errorf("other parts: %v, want ErrMismatch", err)
		}
		if _, err := openDirect(t, server, lossy{rows, false}, takesLarge).CommitDirect(t.Context(), ws, files); err == nil {
			t.Error("the commit's connection did not break")
		}
		for range 2 {
			if _, err := d.CommitDirect(t.Context(), ws, files); err != nil {
				t.Error(err)
			}
		}
	})
}

// A sender that goes away between two parts leaves what SweepOrphans takes, and
// nothing that it takes too early.
func TestPartsThatAreNotCommittedAreSwept(t *testing.T) {
	t.Parallel()
	devstack.EachS3User(t, func(t *testing.T, server devstack.S3) {
		d := openDirect(t, server, newRows(t), takesLarge)
		ws := workspace(t)
		p, files := d.reserveParts(t, ws, storage.DirectPartBytes)
		mustSendPart(t, p, len(p.PartRequests)-1)
		for _, c := range []struct {
			after time.Duration
			want  storage.OrphanResult
		}{{0, storage.OrphanResult{}}, {59 * time.Minute, storage.OrphanResult{}}, {2 * time.Hour, storage.OrphanResult{Uploads: 1}}, {3 * time.Hour, storage.OrphanResult{}}} {
			d.skew.Store(int64(c.after))
			if got, err := d.SweepOrphans(t.Context(), time.Hour); err != nil || got != c.want {
				t.Errorf("after %v: %+v, %v, want %+v", c.after, got, err, c.want)
			}
		}
		d.skew.Store(0)
		_, err := d.CommitDirect(t.Context(), ws, files)
		wantFileError(t, err, 0, storage.ErrNotUploaded)
		one, content := part(p, 0)
		if status := send(t, one, content[:0]); status < 400 {
			t.Errorf("a part of an aborted upload: status %d", status)
		}
		if left := keysOf(t, d.objects); len(left) != 0 {
			t.Errorf("%v is left", left)
		}
	})
}

// beginning has the upload of every file but the first fail.
type beginning struct {
	*s3blob.Store
	mu    *sync.Mutex
	begun *int
}

func (b beginning) CreateParts(ctx context.Context, key string, opts blob.PutOptions) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if *b.begun++; *b.begun > 1 {
		return "", errStore
	}
	return b.Store.CreateParts(ctx, key, opts)
}

func TestReservationsThatFailLeaveNoUpload(t *testing.T) {
	t.Parallel()
	begun := 0
	d := openDirect(t, devstack.MinIOUser(t), newRows(t), takesLarge, func(c *staging.Config) {
		c.Objects = beginning{c.Objects.(*s3blob.Store), new(sync.Mutex), &begun}
	})
	f := partsFile(large(), storage.DirectPartBytes)
	if _, err := d.ReserveDirect(t.Context(), workspace(t), []storage.DirectFile{f, f, f}, time.Minute); !errors.Is(err, errStore) {
		t.Errorf("%v, want the store's error", err)
	}
	if left := keysOf(t, d.objects); begun < 2 || len(left) != 0 {
		t.Errorf("%d were begun, %v is left", begun, left)
	}
}

func TestPartsAreForLargeFilesWhereTheStoreBindsThem(t *testing.T) {
	t.Parallel()
	server := devstack.MinIOUser(t)
	rows := newRows(t)
	d := openDirect(t, server, rows, takesLarge)
	lacking := openDirect(t, server, rows, takesLarge, says(func(context.Context, string) (blob.DirectSupport, error) {
		return blob.DirectSupport{Conditional: true, Checksum: true, NoParts: "on purpose"}, nil
	}))
	exactly, above := partsFile(large()[:storage.DirectPartsFrom], storage.DirectPartBytes), partsFile(large()[:storage.DirectPartsFrom+1], storage.DirectPartBytes)
	unasked := above
	unasked.Parts = nil
	for name, c := range map[string]struct {
		d     direct
		file  storage.DirectFile
		parts int
	}{
		"64 MiB":        {d, exactly, 0},
		"a byte more":   {d, above, 5},
		"not asked for": {d, unasked, 0},
		"not bound":     {lacking, above, 0},
	} {
		puts, err := c.d.ReserveDirect(t.Context(), workspace(t), []storage.DirectFile{c.file}, time.Minute)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p := puts[0]; len(p.PartRequests) != c.parts || (p.URL == "") != (c.parts > 0) || (p.Parts == nil) != (c.parts == 0) {
			t.Errorf("%s: %d part requests, want %d", name, len(p.PartRequests), c.parts)
		}
	}
	for name, change := range map[string]func(*storage.DirectParts){
		"small parts":     func(p *storage.DirectParts) { p.Size = storage.MinDirectPartBytes - 1 },
		"a part too few":  func(p *storage.DirectParts) { p.SHA256 = p.SHA256[1:] },
		"a part too many": func(p *storage.DirectParts) { p.SHA256 = append(p.SHA256, p.SHA256[0]) },
		"no digest":       func(p *storage.DirectParts) { p.SHA256[2] = storage.Digest{} },
	} {
		f := partsFile(large(), storage.DirectPartBytes)
		change(f.Parts)
		puts, err := d.ReserveDirect(t.Context(), workspace(t), []storage.DirectFile{directFile("a", []byte("x")), f}, time.Minute)
		if wantFileError(t, err, 1, storage.ErrInvalidParts); len(puts) != 0 {
			t.Errorf("%s: %v", name, puts)
		}
	}
}
