package s3blob_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// matrixSizes lie around the bounds where a transfer changes its form: parts of
// 5 MiB, chunks of 16 MiB, and the usual cap for a file.
var matrixSizes = []int{1, 5*mib - 1, 5 * mib, 5*mib + 1, 16*mib - 1, 16 * mib, 16*mib + 1, 25 * mib}

// largest is the cap that a service can have for a file. It goes over TLS alone,
// where the SDK frames what it sends.
const largest = 100 * mib

// TestMatrix moves content both ways, proxied and presigned, over HTTP and over
// TLS with an authority that only AWS_CA_BUNDLE names. It sets the environment,
// so it is not parallel; its subtests are.
func TestMatrix(t *testing.T) {
	own := newAuthority(t)
	t.Setenv("AWS_CA_BUNDLE", own.file)
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Run("http", func(t *testing.T) {
				t.Parallel()
				newCell(t, start(t), http.DefaultClient).run(t, matrixSizes)
			})
			t.Run("https", func(t *testing.T) {
				t.Parallel()
				server := start(t)
				server.Endpoint = tlsFront(t, server, own).URL
				newCell(t, server, own.client(t)).run(t, append(matrixSizes[:len(matrixSizes):len(matrixSizes)], largest))
			})
		})
	}
}

// cell is one cell of the matrix.
type cell struct {
	store  *s3blob.Store
	client *http.Client // as plain as those who get presigned requests
}

func newCell(t *testing.T, server devstack.S3, client *http.Client) cell {
	t.Helper()
	return cell{store: open(t, config(t, server)), client: client}
}

func (c cell) run(t *testing.T, sizes []int) {
	for _, size := range sizes {
		proxied, presigned := fmt.Sprintf("proxied/%d", size), fmt.Sprintf("presigned/%d", size)
		// What only yields its bytes has no length and cannot be rewound.
		if err := c.store.Put(t.Context(), proxied, io.MultiReader(bytes.NewReader(content(size))), blob.PutOptions{}); err != nil {
			t.Fatalf("put %d bytes: %v", size, err)
		}
		c.presignedPut(t, presigned, content(size))
		for _, key := range []string{proxied, presigned} {
			c.holds(t, key, size)
			c.answers(t, key, size, "plain.bin")
		}
		info, err := c.store.Head(t.Context(), presigned)
		if want := sha256.Sum256(content(size)); err != nil || info.Size != int64(size) || info.SHA256 == nil || *info.SHA256 != want {
			t.Errorf("Head of %d bytes presigned: %+v, %v", size, info, err)
		}
		if err := c.store.Delete(t.Context(), proxied, presigned); err != nil {
			t.Fatal(err)
		}
	}
	put(t, c.store, "named", 1)
	for _, name := range []string{
		`quote".txt`, `"`, `back\slash`, "Übergrößenträger.pdf", "報告書.pdf", "한국어.txt", "🦊🎉.png", "שלום עולם.txt",
		"\u202egnp.exe", ".hidden", "..two", "a b;c=d,e%20f+g", "'single'", strings.Repeat("n", 100),
		strings.Repeat("ü", 50), // 100 bytes
	} {
		c.answers(t, "named", 1, name)
	}
	if err := c.store.Delete(t.Context(), "named"); err != nil {
		t.Fatal(err)
	}
	empty(t, c.store)
}

func (c cell) presignedPut(t *testing.T, key string, content []byte) {
	t.Helper()
	r, err := c.store.PresignPut(t.Context(), key, blob.PresignPutOptions{
		TTL: time.Minute, Size: int64(len(content)), SHA256: sha256.Sum256(content), ContentType: "text/x-test", IfNoneMatch: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	resp := c.do(t, r, bytes.NewReader(content))
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		t.Fatalf("presigned put of %d bytes: %s %s", len(content), resp.Status, text)
	}
}

// answers reads an object through a presigned request under a name.
func (c cell) answers(t *testing.T, key string, size int, name string) {
	t.Helper()
	disposition := attachment(name)
	r, err := c.store.PresignGet(t.Context(), key, blob.PresignGetOptions{
		TTL: time.Minute, ContentType: "application/pdf", ContentDisposition: disposition, CacheControl: "private, no-store",
	})
	if err != nil {
		t.Fatal(err)
	}
	resp := c.do(t, r, nil)
	defer resp.Body.Close()
	h := sha256.New()
	n, err := io.Copy(h, resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || n != int64(size) {
		t.Errorf("presigned get of %d bytes as %q: %s, %d bytes, %v", size, name, resp.Status, n, err)
	}
	if got := resp.Header.Get("Content-Disposition"); got != disposition {
		t.Errorf("%q came as %q, signed was %q", name, got, disposition)
	}
	if _, params, err := mime.ParseMediaType(resp.Header.Get("Content-Disposition")); err != nil || params["filename"] != name {
		t.Errorf("%q reads as %q, %v", name, params["filename"], err)
	}
	if got := resp.Header.Get("Content-Type") + " " + resp.Header.Get("Cache-Control"); got != "application/pdf private, no-store" {
		t.Errorf("type and caching of %q: %s", name, got)
	}
	if key == "named" {
		return
	}
	if want := sha256.Sum256(content(size)); !bytes.Equal(h.Sum(nil), want[:]) {
		t.Errorf("presigned get of %d bytes: other content", size)
	}
}

func (c cell) do(t *testing.T, r blob.SignedRequest, body io.Reader) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), r.Method, r.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range r.Header {
		req.Header[name] = values
	}
	resp, err := c.client.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", r.Method, err)
	}
	return resp
}

// holds reads an object through the store.
func (c cell) holds(t *testing.T, key string, size int) {
	t.Helper()
	r, err := c.store.Open(t.Context(), key, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	h := sha256.New()
	n, err := io.Copy(h, r)
	if want := sha256.Sum256(content(size)); err != nil || n != int64(size) || !bytes.Equal(h.Sum(nil), want[:]) {
		t.Errorf("read %d bytes of %s, %v, or they differ", n, key, err)
	}
}

// attachment names a file the way RFC 6266 and RFC 8187 have it.
func attachment(name string) string {
	var plain, encoded strings.Builder
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-':
			plain.WriteByte(c)
			encoded.WriteByte(c)
		default:
			plain.WriteByte('_')
			fmt.Fprintf(&encoded, "%%%02X", c)
		}
	}
	return `attachment; filename="` + plain.String() + `"; filename*=UTF-8''` + encoded.String()
}

// content returns size bytes that no compression and no repetition makes alike.
func content(size int) []byte { return matrixContent()[:size] }

var matrixContent = sync.OnceValue(func() []byte {
	b := make([]byte, largest)
	rng := rand.NewChaCha8([32]byte{'m', 'a', 't', 'r', 'i', 'x'})
	_, _ = rng.Read(b) // never fails
	return b
})
