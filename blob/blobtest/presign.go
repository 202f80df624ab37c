package blobtest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/blob"
)

func presignerCases() []promise {
	return []promise{
		{"a presigned put stores what it was made for", testPresignPut},
		{"a presigned put stores nothing else", testPresignPutOther},
		{"a presigned put replaces nothing if it says so", testPresignPutOnce},
		{"a presigned get answers as it was made to", testPresignGet},
		{"a presigned get answers nothing else", testPresignGetOther},
		{"a presigned request ends", testPresignEnds},
		{"what cannot be presigned is refused", testPresignRefused},
		{"a presigned request shows no secret when printed", testPresignPrinted},
	}
}

const mimeType = "text/x-test"

func (f fixture) presigner() blob.Presigner { return f.Store.(blob.Presigner) }

// presignPut makes a request for bytesAt(0, size).
func (f fixture) presignPut(t *testing.T, key string, size int64, once bool) blob.SignedRequest {
	t.Helper()
	r, err := f.presigner().PresignPut(t.Context(), key, blob.PresignPutOptions{
		TTL: time.Minute, Size: size, SHA256: sha256.Sum256(bytesAt(0, size)), ContentType: mimeType, IfNoneMatch: once,
	})
	if err != nil {
		t.Fatalf("PresignPut(%s): %v", key, err)
	}
	return r
}

func (f fixture) presignGet(t *testing.T, key string, opts blob.PresignGetOptions) blob.SignedRequest {
	t.Helper()
	r, err := f.presigner().PresignGet(t.Context(), key, opts)
	if err != nil {
		t.Fatalf("PresignGet(%s): %v", key, err)
	}
	return r
}

// answer is a response that was read to its end.
type answer struct {
	status  int
	header  http.Header
	content []byte
}

// send sends a presigned request the way anybody could, after change had its way
// with it.
func send(t *testing.T, r blob.SignedRequest, content []byte, change func(*http.Request)) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), r.Method, r.URL, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range r.Header {
		req.Header[name] = values
	}
	if change != nil {
		change(req)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", r.Method, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v", r.Method, err)
	}
	return answer{resp.StatusCode, resp.Header, got}
}

// refused fails the test unless the store put the blame on the request.
func (a answer) refused(t *testing.T, name string) {
	t.Helper()
	if a.status < 400 || a.status >= 500 {
		t.Errorf("%s: answered %d, want a refusal", name, a.status)
	}
}

func testPresignPut(t *testing.T, f fixture) {
	for _, size := range []int64{0, 1, 5*mib + 1} {
		key := f.key(fmt.Sprint(size))
		r := f.presignPut(t, key, size, false)
		for range 2 { // it may be sent again
			if a := send(t, r, bytesAt(0, size), nil); a.status != http.StatusOK {
				t.Fatalf("put of %d bytes: %d %s", size, a.status, a.content)
			}
		}
		f.holds(t, key, size)
		if _, ok := f.Store.(blob.Header); !ok {
			continue
		}
		info := f.head(t, key)
		if want := sha256.Sum256(bytesAt(0, size)); info.SHA256 == nil || *info.SHA256 != want {
			t.Errorf("Head(%s) has the SHA-256 %v, want %x", key, info.SHA256, want)
		}
		if size > 0 && info.ContentType != mimeType {
			t.Errorf("Head(%s) has the type %q", key, info.ContentType)
		}
	}
}

func testPresignPutOther(t *testing.T, f fixture) {
	const size = 1000
	right, other := bytesAt(0, size), bytesAt(1, size)
	key := f.key("a")
	for _, once := range []bool{false, true} {
		r := f.presignPut(t, key, size, once)
		for _, c := range []struct {
			name    string
			content []byte
			change  func(*http.Request)
		}{
			{"other content", other, nil},
			{"less", right[:size-1], nil},
			{"more", bytesAt(0, size+1), nil},
			{"nothing", nil, nil},
			{"unknown length", right, func(r *http.Request) { r.ContentLength = -1 }},
			{"other type", right, func(r *http.Request) { r.Header.Set("Content-Type", "text/html") }},
			{"other checksum", other, func(r *http.Request) { replaceChecksum(r, other) }},
			{"no checksum", other, func(r *http.Request) { replaceChecksum(r, nil) }},
			{"other key", right, func(r *http.Request) { r.URL.Path += "b"; r.URL.RawPath = "" }},
			{"other method", nil, func(r *http.Request) { r.Method = http.MethodDelete }},
			{"longer life", right, func(r *http.Request) {
				r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "X-Amz-Expires=60", "X-Amz-Expires=61", 1)
			}},
		} {
			send(t, r, c.content, c.change).refused(t, c.name)
		}
	}
	empty := f.presignPut(t, key, 0, false)
	send(t, empty, right, nil).refused(t, "content where none was signed")
	f.empty(t, key, key+"b")
}

// replaceChecksum replaces whichever header binds the content.
func replaceChecksum(r *http.Request, content []byte) {
	for name := range r.Header {
		if !strings.HasPrefix(name, "X-Amz-Checksum-") {
			continue
		}
		r.Header.Del(name)
		if content != nil {
			r.Header.Set(name, base64SHA256(content))
		}
	}
}

func testPresignPutOnce(t *testing.T, f fixture) {
	const size = 1000
	key := f.key("a")
	f.put(t, key, otherBody(size))
	r := f.presignPut(t, key, size, true)
	if a := send(t, r, bytesAt(0, size), nil); a.status != http.StatusPreconditionFailed {
		t.Errorf("a put over an object answered %d, want 412", a.status)
	}
	send(t, r, bytesAt(0, size), func(r *http.Request) { r.Header.Del("If-None-Match") }).refused(t, "without the condition")
	if got := f.read(t, key, 0, 0); !bytes.Equal(got, bytesAt(1, size)) {
		t.Error("the object was replaced")
	}
	if err := f.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if a := send(t, r, bytesAt(0, size), nil); a.status != http.StatusOK {
		t.Errorf("a put where nothing is answered %d: %s", a.status, a.content)
	}
	f.holds(t, key, size)
}

func testPresignGet(t *testing.T, f fixture) {
	const size = 6 * mib
	key := f.key("a")
	f.put(t, key, body(size))
	want := map[string]string{
		"Content-Type":        "text/plain; charset=utf-8",
		"Content-Disposition": `attachment; filename="a \"b\" \\.txt"; filename*=UTF-8''%C3%A4%20%E2%82%AC.txt`,
		"Cache-Control":       "private, no-store",
	}
	r := f.presignGet(t, key, blob.PresignGetOptions{
		TTL: time.Minute, ContentType: want["Content-Type"], ContentDisposition: want["Content-Disposition"], CacheControl: want["Cache-Control"],
	})
	check := func(a answer, status int, content []byte) {
		t.Helper()
		if a.status != status || !bytes.Equal(a.content, content) {
			t.Errorf("answered %d with %d bytes, want %d with %d", a.status, len(a.content), status, len(content))
		}
		for name, value := range want {
			if got := a.header.Get(name); got != value {
				t.Errorf("%s: %q, want %q", name, got, value)
			}
		}
	}
	check(send(t, r, nil, nil), http.StatusOK, bytesAt(0, size))
	check(send(t, r, nil, func(r *http.Request) { r.Header.Set("Range", "bytes=5242870-5242889") }), http.StatusPartialContent, bytesAt(5*mib-10, 20))
	if bare := send(t, f.presignGet(t, key, blob.PresignGetOptions{TTL: time.Minute}), nil, nil); bare.status != http.StatusOK ||
		bare.header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("without options: %d, %q", bare.status, bare.header.Get("Content-Type"))
	}
}

func testPresignGetOther(t *testing.T, f fixture) {
	a, b := f.key("a"), f.key("b")
	f.put(t, a, body(10))
	f.put(t, b, body(10))
	r := f.presignGet(t, a, blob.PresignGetOptions{TTL: time.Minute, ContentType: mimeType})
	for name, change := range map[string]func(*http.Request){
		"other key":    func(r *http.Request) { r.URL.Path = strings.TrimSuffix(r.URL.Path, "a") + "b"; r.URL.RawPath = "" },
		"other type":   func(r *http.Request) { r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "x-test", "html", 1) },
		"other method": func(r *http.Request) { r.Method = http.MethodPut },
		"no signature": func(r *http.Request) { r.URL.RawQuery = "" },
	} {
		send(t, r, nil, change).refused(t, name)
	}
	f.holds(t, a, 10)
	if absent := send(t, f.presignGet(t, f.key("c"), blob.PresignGetOptions{TTL: time.Minute}), nil, nil); absent.status != http.StatusNotFound {
		t.Errorf("an absent object is answered with %d, want 404", absent.status)
	}
}

func testPresignEnds(t *testing.T, f fixture) {
	key := f.key("a")
	f.put(t, key, body(1))
	before := time.Now()
	r := f.presignGet(t, key, blob.PresignGetOptions{TTL: time.Second})
	if r.Expires.Before(before.Add(-time.Second)) || r.Expires.After(time.Now().Add(time.Second)) {
		t.Errorf("made at %v for a second, it ends at %v", before, r.Expires)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for send(t, r, nil, nil).status == http.StatusOK {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("it never ends")
		}
	}
	if a := send(t, r, nil, nil); a.status != http.StatusForbidden {
		t.Errorf("after its end it is answered with %d, want 403", a.status)
	}
}

func testPresignRefused(t *testing.T, f fixture) {
	sum := sha256.Sum256(nil)
	for name, opts := range map[string]blob.PresignPutOptions{
		"no life":         {SHA256: sum},
		"too long a life": {TTL: blob.MaxPresignTTL + time.Second, SHA256: sum},
		"negative size":   {TTL: time.Minute, Size: -1, SHA256: sum},
		"no checksum":     {TTL: time.Minute},
	} {
		if r, err := f.presigner().PresignPut(t.Context(), f.key("a"), opts); err == nil || r.URL != "" {
			t.Errorf("%s: PresignPut = %v, %v, want an error and no URL", name, r, err)
		}
	}
	for _, ttl := range []time.Duration{0, -time.Second, time.Millisecond, blob.MaxPresignTTL + time.Second} {
		if r, err := f.presigner().PresignGet(t.Context(), f.key("a"), blob.PresignGetOptions{TTL: ttl}); err == nil || r.URL != "" {
			t.Errorf("PresignGet for %v = %v, %v, want an error and no URL", ttl, r, err)
		}
	}
}

func testPresignPrinted(t *testing.T, f fixture) {
	r := f.presignPut(t, f.key("a"), 1, false)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, r); strings.Contains(text, r.URL) || strings.Contains(text, "Signature") || text == "" {
			t.Errorf("%s shows %q", verb, text)
		}
	}
	if text := r.LogValue().String(); strings.Contains(text, "http") {
		t.Errorf("a log shows %q", text)
	}
}
