package staging_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/storage"
)

// fetch reads a URL as anybody could, without decoding anything.
func fetch(t *testing.T, url string) (status int, body []byte, header http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body, resp.Header
}

// wantContent fails unless the file has that content, through the service and by
// URL.
func (d direct) wantContent(t *testing.T, when string, ws storage.WorkspaceID, f storage.FileID, want []byte) {
	t.Helper()
	r, err := d.Get(t.Context(), ws, f)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	if !bytes.Equal(read(t, r), want) {
		t.Errorf("%s: the service reads other content", when)
	}
	u, err := r.Content.URL(t.Context(), storage.URLOptions{TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if status, got, header := fetch(t, u.URL); status != http.StatusOK || !bytes.Equal(got, want) || header.Get("Content-Encoding") != "" {
		t.Errorf("%s: the URL answers %d, %d bytes, encoding %q", when, status, len(got), header.Get("Content-Encoding"))
	}
}

// archive is one file that unpacks to the key.
func archive(t *testing.T, key, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: key, Mode: 0o600, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What the holder of a reservation gets by headers that nobody signed: nothing,
// neither before the commit nor after it.
func TestHeadersBesideADirectPutChangeNothing(t *testing.T) {
	t.Parallel()
	devstack.EachS3User(t, func(t *testing.T, server devstack.S3) {
		d := openDirect(t, server, newRows(t))
		ws, other := workspace(t), workspace(t)
		theirs := []byte("their bytes")
		rec, err := d.Put(t.Context(), other, storage.Upload{Filename: "b.txt", MIMEType: "text/plain", Body: bytes.NewReader(theirs)})
		if err != nil {
			t.Fatal(err)
		}
		theirKey := prefix + "/" + other.String() + "/" + rec.FileID.String()
		set := func(pairs ...string) func(*http.Request, string) {
			return func(r *http.Request, _ string) {
				for i := 0; i < len(pairs); i += 2 {
					r.Header.Set(pairs[i], pairs[i+1])
				}
			}
		}
		source := server.Bucket + "/" + theirKey
		for name, attack := range map[string]struct {
			content []byte
			change  func(r *http.Request, key string)
		}{
			"a copy":             {nil, set("X-Amz-Copy-Source", source)},
			"a copy, escaped":    {nil, set("X-Amz-Copy-Source", "/"+strings.ReplaceAll(source, "/", "%2F"))},
			"a copy of new ways": {nil, set("X-Amz-Copy-Source", source, "X-Amz-Metadata-Directive", "REPLACE")},
			"a copy with tags":   {nil, set("X-Amz-Copy-Source", source, "X-Amz-Tagging-Directive", "REPLACE", "X-Amz-Tagging", "a=b")},
			"a copy of a part":   {nil, set("X-Amz-Copy-Source", source, "X-Amz-Copy-Source-Range", "bytes=0-4")},
			"a copy of itself":   {nil, func(r *http.Request, key string) { r.Header.Set("X-Amz-Copy-Source", server.Bucket+"/"+key) }},
			"itself in new ways": {nil, func(r *http.Request, key string) {
				set("X-Amz-Copy-Source", server.Bucket+"/"+key, "X-Amz-Metadata-Directive", "REPLACE", "Content-Encoding", "gzip")(r, key)
			}},
			"for everybody":       {nil, set("X-Amz-Acl", "public-read")},
			"for others":          {nil, set("X-Amz-Grant-Full-Control", `uri="http://acs.amazonaws.com/groups/global/AllUsers"`)},
			"tags":                {nil, set("X-Amz-Tagging", "a=b")},
			"a cheaper class":     {nil, set("X-Amz-Storage-Class", "REDUCED_REDUNDANCY")},
			"a redirect":          {nil, set("X-Amz-Website-Redirect-Location", "https://example.test/")},
			"an encoding":         {nil, set("Content-Encoding", "gzip")},
			"another encoding":    {nil, set("Content-Encoding", "br")},
			"meta data":           {nil, set("X-Amz-Meta-A", "b")},
			"to be unpacked":      {archive(t, theirKey, "unpacked"), set("X-Amz-Meta-Snowball-Auto-Extract", "true")},
			"unpacked elsewhere":  {archive(t, rec.FileID.String(), "unpacked"), set("X-Amz-Meta-Snowball-Auto-Extract", "true", "X-Amz-Meta-Minio-Snowball-Prefix", prefix+"/"+other.String())},
			"to be appended":      {nil, set("X-Amz-Write-Offset-Bytes", "0")},
			"another key, chunks": {nil, func(r *http.Request, key string) { forge(r, key, theirKey) }},
			"the key, in chunks":  {nil, func(r *http.Request, key string) { forge(r, key, key) }},
		} {
			content := attack.content
			if content == nil {
				content = []byte("own content")
			}
			puts, files := d.reserve(t, ws, content)
			key := prefix + "/" + ws.String() + "/" + files[0].FileID.String()
			change := func(r *http.Request) { attack.change(r, key) }
			if status := send(t, puts[0], content, change); status >= 300 {
				mustSend(t, puts[0], content)
			}
			_, err := d.CommitDirect(t.Context(), ws, files)
			if errors.Is(err, storage.ErrMismatch) && strings.HasSuffix(name, "encoding") {
				continue // nothing was staged
			}
			if err != nil {
				t.Errorf("%s: commit: %v", name, err)
				continue
			}
			d.wantContent(t, name+", before", ws, files[0].FileID, content)
			if status := send(t, puts[0], content, change); status < 400 || status >= 500 {
				t.Errorf("%s, after: status %d, want a refusal", name, status)
			}
			d.wantContent(t, name+", after", ws, files[0].FileID, content)
			d.wantContent(t, name+", theirs", other, rec.FileID, theirs)
			if status, _, _ := fetch(t, server.Endpoint+"/"+server.Bucket+"/"+key); status != http.StatusForbidden {
				t.Errorf("%s: without a signature: status %d, want 403", name, status)
			}
		}
	})
}

// forge sends a request elsewhere, in the one form for which MinIO looks at no
// signature of a URL.
func forge(r *http.Request, key, elsewhere string) {
	const evil = "forged....."
	r.URL.Path = strings.Replace(r.URL.Path, key, elsewhere, 1)
	r.Header.Del("If-None-Match")
	r.Header.Set("X-Amz-Content-Sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
	r.Header.Set("X-Amz-Decoded-Content-Length", fmt.Sprint(len(evil)))
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Amz-Checksum-") {
			r.Header.Del(name)
		}
	}
	body := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n\r\n", len(evil), evil)
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
}

// An object said to be encoded would reach readers by URL as other bytes than
// those of its SHA-256.
func TestDirectCommitRefusesEncodedObjects(t *testing.T) {
	t.Parallel()
	devstack.EachS3User(t, func(t *testing.T, server devstack.S3) {
		d := openDirect(t, server, newRows(t))
		ws := workspace(t)
		for encoding, want := range map[string]error{"gzip": storage.ErrMismatch, "zstd": storage.ErrMismatch, "identity": nil} {
			puts, files := d.reserve(t, ws, []byte("hello"))
			if status := send(t, puts[0], []byte("hello"), func(r *http.Request) { r.Header.Set("Content-Encoding", encoding) }); status != http.StatusOK {
				t.Fatalf("%s: status %d: the store refuses what the commit should", encoding, status)
			}
			if _, err := d.CommitDirect(t.Context(), ws, files); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", encoding, err, want)
			}
		}
	})
}
