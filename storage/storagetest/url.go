package storagetest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/storage"
)

var urlOptions = storage.URLOptions{
	TTL: time.Minute, ContentType: "text/x-of-the-url",
	ContentDisposition: `attachment; filename="a \"b\".txt"; filename*=UTF-8''a%20%22b%22.txt`,
}

var urlTests = []subtest{
	{"a URL gives exactly the bytes, with the headers asked for, until it ends", func(t *testing.T, open Open) {
		h := open(t, Options{})
		ws := newWorkspace(t)
		want := noise(large + 5)
		put(t, h, ws, noise(large + 5)[1:]) // another, beside it
		r := put(t, h, ws, want)
		if !h.URLs {
			_, err := r.Content.URL(t.Context(), urlOptions)
			wantErr(t, "URL", err, storage.ErrNoURL)
			return
		}
		before := time.Now()
		u, err := r.Content.URL(t.Context(), urlOptions)
		if err != nil {
			t.Fatal(err)
		}
		if end := u.ExpiresAt; end.After(time.Now().Add(urlOptions.TTL)) || end.Before(before.Add(urlOptions.TTL-2*time.Second)) {
			t.Errorf("it ends %v from its making, want %v", end.Sub(before), urlOptions.TTL)
		}
		for _, printed := range []string{fmt.Sprint(u), fmt.Sprintf("%+v", u), fmt.Sprintf("%#v", u)} {
			if strings.Contains(printed, "://") {
				t.Errorf("printed, it shows the address: %s", printed)
			}
		}
		status, header, got := fetch(t, u, "")
		if status != http.StatusOK || !bytes.Equal(got, want) {
			t.Errorf("status %d, %d bytes, want the %d that were put", status, len(got), len(want))
		}
		for name, value := range map[string]string{
			"Content-Type": urlOptions.ContentType, "Content-Disposition": urlOptions.ContentDisposition, "Cache-Control": "private, no-store",
		} {
			if header.Get(name) != value {
				t.Errorf("%s: %q, want %q", name, header.Get(name), value)
			}
		}
		if status, _, got := fetch(t, u, "bytes=5-104"); status != http.StatusPartialContent || !bytes.Equal(got, want[5:105]) {
			t.Errorf("a range: status %d, %d bytes", status, len(got))
		}
	}},
	{"a URL never outlives the row", func(t *testing.T, open Open) {
		h := open(t, Options{})
		if !h.URLs {
			return
		}
		ws := newWorkspace(t)
		r := put(t, h, ws, noise(large))
		h.Age(t, ws, r.FileID, time.Until(r.ExpiresAt)-20*time.Second)
		got, err := h.Storage.Get(t.Context(), ws, r.FileID)
		if err != nil {
			t.Fatal(err)
		}
		u, err := got.Content.URL(t.Context(), urlOptions)
		if err != nil || u.ExpiresAt.After(got.ExpiresAt) {
			t.Errorf("it ends %v after the row, %v", u.ExpiresAt.Sub(got.ExpiresAt), err)
		}
		got.ExpiresAt = time.Time{} // what the caller does with its copy changes nothing
		if u, err := got.Content.URL(t.Context(), urlOptions); err != nil || !u.ExpiresAt.After(time.Now()) {
			t.Errorf("a second one: %v, %v", u, err)
		}
	}},
	{"content in its row has no URL", func(t *testing.T, open Open) {
		h := open(t, Options{})
		r := put(t, h, newWorkspace(t), noise(5))
		if r.Content.Placement != storage.PlacementInline {
			return
		}
		_, err := r.Content.URL(t.Context(), urlOptions)
		wantErr(t, "URL", err, storage.ErrNoURL)
	}},
}

// fetch gets a URL with nothing but what the URL asks for.
func fetch(t *testing.T, u storage.SignedURL, byteRange string) (int, http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range u.Header {
		req.Header[name] = values
	}
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, body
}
