package blobtest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/blob"
)

func partCases() []promise {
	return []promise{
		{"presigned parts become the object they were made for", testParts},
		{"a presigned part stores nothing else", testPartOther},
		{"an object lacks no part", testPartsMissing},
		{"parts replace no object if they say so", testPartsOnce},
		{"an upload is unfinished until it is completed", testPartsUnfinished},
		{"parts that cannot be presigned are refused", testPartsRefused},
	}
}

// partSizes are those of an object of two parts.
var partSizes = []int64{blob.MinPartBytes, 1000}

// parted is an object that was begun, with its parts and their requests.
type parted struct {
	key, id  string
	parts    []blob.Part
	requests []blob.SignedRequest
	contents [][]byte
}

func (f fixture) partPresigner() blob.PartPresigner { return f.Store.(blob.PartPresigner) }

// begin makes requests for bytesAt(0, sum of partSizes).
func (f fixture) begin(t *testing.T, key string) parted {
	t.Helper()
	id, err := f.partPresigner().CreateParts(t.Context(), key, blob.PutOptions{ContentType: mimeType})
	if err != nil {
		t.Fatalf("CreateParts(%s): %v", key, err)
	}
	p := parted{key: key, id: id}
	var offset int64
	for i, size := range partSizes {
		content := bytesAt(offset, size)
		offset += size
		part := blob.Part{Size: size, SHA256: sha256.Sum256(content)}
		r, err := f.partPresigner().PresignPart(t.Context(), key, id, blob.PresignPartOptions{TTL: time.Minute, Number: i + 1, Part: part})
		if err != nil {
			t.Fatalf("PresignPart(%s, %d): %v", key, i+1, err)
		}
		p.parts, p.requests, p.contents = append(p.parts, part), append(p.requests, r), append(p.contents, content)
	}
	return p
}

func (p parted) send(t *testing.T, i int) {
	t.Helper()
	if a := send(t, p.requests[i], p.contents[i], nil); a.status != http.StatusOK {
		t.Fatalf("part %d: %d %s", i+1, a.status, a.content)
	}
}

func (f fixture) complete(t *testing.T, p parted, once bool) error {
	t.Helper()
	return f.partPresigner().CompleteParts(t.Context(), p.key, p.id, p.parts, blob.CompleteOptions{IfNoneMatch: once})
}

func testParts(t *testing.T, f fixture) {
	p := f.begin(t, f.key("a"))
	for _, i := range []int{1, 0, 1} { // in any order, and again
		p.send(t, i)
	}
	if _, err := f.Store.(blob.Header).Head(t.Context(), p.key); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("before it is completed: %v, want ErrNotFound", err)
	}
	if err := f.complete(t, p, true); err != nil {
		t.Fatal(err)
	}
	f.holds(t, p.key, partSizes[0]+partSizes[1])
	info := f.head(t, p.key)
	if info.ContentType != mimeType || info.SHA256 != nil {
		t.Errorf("Head(%s) = %+v", p.key, info)
	}
	if want := blob.CompositeSHA256(p.parts); info.Composite != "" && info.Composite != want {
		t.Errorf("Head(%s) has the checksum %s, want none or %s", p.key, info.Composite, want)
	}
	send(t, p.requests[1], p.contents[1], nil).refused(t, "a part of a completed object")
	f.holds(t, p.key, partSizes[0]+partSizes[1])
}

func testPartOther(t *testing.T, f fixture) {
	p, other := f.begin(t, f.key("a")), f.begin(t, f.key("b"))
	query := func(from, to string) func(*http.Request) {
		return func(r *http.Request) {
			changed := strings.Replace(r.URL.RawQuery, from, to, 1)
			if changed == r.URL.RawQuery {
				t.Errorf("%q is not in the address", from)
			}
			r.URL.RawQuery = changed
		}
	}
	right, wrong := p.contents[1], bytesAt(1, partSizes[1])
	for name, c := range map[string]struct {
		content []byte
		change  func(*http.Request)
	}{
		"other content":  {wrong, nil},
		"less":           {right[:10], nil},
		"more":           {bytesAt(0, partSizes[1]+1), nil},
		"nothing":        {nil, nil},
		"other checksum": {wrong, func(r *http.Request) { replaceChecksum(r, wrong) }},
		"no checksum":    {wrong, func(r *http.Request) { replaceChecksum(r, nil) }},
		"other part":     {right, query("partNumber=2", "partNumber=3")},
		"other upload": {right, func(r *http.Request) {
			q := r.URL.Query()
			q.Set("uploadId", other.id)
			r.URL.RawQuery = q.Encode()
		}},
		"other key":    {right, func(r *http.Request) { r.URL.Path = strings.TrimSuffix(r.URL.Path, "a") + "b"; r.URL.RawPath = "" }},
		"longer life":  {right, query("X-Amz-Expires=60", "X-Amz-Expires=61")},
		"whole object": {right, func(r *http.Request) { r.URL.RawQuery = strings.ReplaceAll(r.URL.RawQuery, "uploadId=", "x=") }},
		"to list":      {nil, func(r *http.Request) { r.Method = http.MethodGet }},
		"to complete":  {[]byte("<CompleteMultipartUpload/>"), func(r *http.Request) { r.Method = http.MethodPost }},
		"to abort":     {nil, func(r *http.Request) { r.Method = http.MethodDelete }},
	} {
		send(t, p.requests[1], c.content, c.change).refused(t, name)
	}
	for _, u := range []parted{p, other} {
		if err := f.complete(t, u, false); !errors.Is(err, blob.ErrPartMissing) {
			t.Errorf("complete %s: %v, want ErrPartMissing", u.key, err)
		}
		f.abort(t, u)
	}
	f.empty(t, p.key, other.key)
}

func (f fixture) abort(t *testing.T, p parted) {
	t.Helper()
	if err := f.AbortUnfinished(t.Context(), blob.Unfinished{Key: p.key, UploadID: p.id}); err != nil {
		t.Error(err)
	}
}

func testPartsMissing(t *testing.T, f fixture) {
	p := f.begin(t, f.key("a"))
	for _, c := range []struct {
		name string
		step func()
	}{
		{"no part", func() {}},
		{"not the first", func() { p.send(t, 1) }},
	} {
		c.step()
		if err := f.complete(t, p, false); !errors.Is(err, blob.ErrPartMissing) {
			t.Errorf("%s: %v, want ErrPartMissing", c.name, err)
		}
	}
	p.send(t, 0)
	lied := p
	lied.parts = append([]blob.Part(nil), p.parts...)
	lied.parts[1].SHA256[0]++
	if err := f.complete(t, lied, false); err == nil {
		t.Error("other checksums than those of the parts are taken")
	}
	f.abort(t, p)
	if err := f.complete(t, p, false); !errors.Is(err, blob.ErrNoUpload) {
		t.Errorf("after an abort: %v, want ErrNoUpload", err)
	}
	f.empty(t, p.key)
}

func testPartsOnce(t *testing.T, f fixture) {
	p := f.begin(t, f.key("a"))
	p.send(t, 0)
	p.send(t, 1)
	f.put(t, p.key, otherBody(10))
	if err := f.complete(t, p, true); err == nil {
		t.Error("an object was replaced")
	}
	if got := f.read(t, p.key, 0, 0); len(got) != 10 {
		t.Errorf("there are %d bytes now", len(got))
	}
	f.abort(t, p)
}

func testPartsUnfinished(t *testing.T, f fixture) {
	done, open := f.begin(t, f.key("done")), f.begin(t, f.key("open"))
	for i := range partSizes {
		done.send(t, i)
		open.send(t, i)
	}
	if err := f.complete(t, done, false); err != nil {
		t.Fatal(err)
	}
	if err := f.complete(t, done, false); err != nil && !errors.Is(err, blob.ErrNoUpload) {
		t.Errorf("complete again: %v, want nothing or ErrNoUpload", err)
	}
	var found []string
	for u, err := range f.ListUnfinished(t.Context(), f.prefix) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, u.Key)
	}
	if fmt.Sprint(found) != fmt.Sprint([]string{open.key}) {
		t.Errorf("unfinished: %v, want %s", found, open.key)
	}
	f.abort(t, open)
	send(t, open.requests[1], open.contents[1], nil).refused(t, "a part of an aborted object")
	if err := f.Delete(t.Context(), done.key); err != nil {
		t.Error(err)
	}
	f.empty(t, open.key)
}

func testPartsRefused(t *testing.T, f fixture) {
	good := blob.PresignPartOptions{TTL: time.Minute, Number: 1, Part: blob.Part{Size: 1, SHA256: sha256.Sum256(nil)}}
	with := func(change func(*blob.PresignPartOptions)) blob.PresignPartOptions {
		o := good
		change(&o)
		return o
	}
	for name, opts := range map[string]blob.PresignPartOptions{
		"no life":       with(func(o *blob.PresignPartOptions) { o.TTL = 0 }),
		"number 0":      with(func(o *blob.PresignPartOptions) { o.Number = 0 }),
		"number 10,001": with(func(o *blob.PresignPartOptions) { o.Number = blob.MaxParts + 1 }),
		"no bytes":      with(func(o *blob.PresignPartOptions) { o.Size = 0 }),
		"no checksum":   with(func(o *blob.PresignPartOptions) { o.SHA256 = [sha256.Size]byte{} }),
	} {
		if r, err := f.partPresigner().PresignPart(t.Context(), f.key("a"), "id", opts); err == nil || r.URL != "" {
			t.Errorf("%s: PresignPart = %v, %v, want an error and no URL", name, r, err)
		}
	}
	if r, err := f.partPresigner().PresignPart(t.Context(), f.key("a"), "", good); err == nil || r.URL != "" {
		t.Errorf("no upload: PresignPart = %v, %v, want an error and no URL", r, err)
	}
}
