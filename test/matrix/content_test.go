package matrix

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/storage"
)

const mib = storage.MiB

// sizes lie around the bounds where a transfer changes its form: parts of 5 MiB,
// MinIO's chunks of 16 MiB, the usual cap for a file and the highest there is.
var sizes = []int64{1, 5*mib - 1, 5 * mib, 5*mib + 1, 16*mib - 1, 16 * mib, 16*mib + 1, 25 * mib, 100 * mib}

// small is the size of files that are about their names.
const small = 4 << 10

// names are file names and what the service makes of them (contract 5.1).
var names = []struct{ sent, kept string }{
	{`quote".txt`, "quote_.txt"},
	{`"`, "_"},
	{`back\slash`, "back_slash"},
	{"'single'", "_single_"},
	{"a b;c=d,e%20f+g", "a_b_c_d_e_20f_g"},
	{"Übergrößenträger.pdf", "_bergr__entr_ger.pdf"},
	{"報告書.pdf", "___.pdf"},
	{"한국어.txt", "___.txt"},
	{"🦊🎉.png", "__.png"},
	{"שלום עולם.txt", "_________.txt"},
	{"\u202egnp.exe", "_gnp.exe"},
	{".hidden", ".hidden"},
	{"..two", "..two"},
	{bytes96 + ".txt", bytes96 + ".txt"}, // 100 bytes
	{strings50("ü"), strings50("_")},     // 100 bytes before
	{bytes96 + "12345.txt", bytes96 + ".txt"},
}

var bytes96 = string(bytes.Repeat([]byte("n"), 96))

func strings50(s string) string { return string(bytes.Repeat([]byte(s), 50)) }

// content yields size bytes that neither compression nor repetition makes alike,
// without ever holding them.
func content(size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{'m', 'a', 't', 'r', 'i', 'x', byte(size), byte(size >> 8), byte(size >> 16), byte(size >> 24)}), size)
}

// digest is the SHA-256 of content.
func digest(t *testing.T, size int64) storage.Digest {
	t.Helper()
	got, ok := digests()[size]
	if !ok {
		t.Fatalf("no digest of %d bytes", size)
	}
	return got
}

var digests = sync.OnceValue(func() map[int64]storage.Digest {
	all := map[int64]storage.Digest{}
	for _, size := range append([]int64{small}, sizes...) {
		sum := sha256.New()
		_, _ = io.Copy(sum, content(size)) // neither side fails
		all[size] = storage.Digest(sum.Sum(nil))
	}
	return all
})

// file is content to send.
func file(name string, size int64) client.File {
	return client.File{Name: name, MIMEType: "application/x-matrix", Size: size, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(content(size)), nil
	}}
}

// readWhole compares a body with content.
func readWhole(t *testing.T, body io.Reader, size int64) error {
	t.Helper()
	sum := sha256.New()
	n, err := io.Copy(sum, body)
	switch {
	case err != nil:
		return fmt.Errorf("after %d bytes: %w", n, err)
	case n != size:
		return fmt.Errorf("%d bytes, want %d", n, size)
	case storage.Digest(sum.Sum(nil)) != digest(t, size):
		return fmt.Errorf("%d other bytes", n)
	}
	return nil
}
