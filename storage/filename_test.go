package storage_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/molecule-ai/pendinguploads/storage"
)

// The cases were computed with the reference rule of contract 5.1.
func TestSanitizeFilenameAgreesWithTheReferenceCases(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/sanitize_filename_cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct{ In, Out string }
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) != 149 {
		t.Fatalf("%d cases, want 149", len(cases))
	}
	for _, c := range cases {
		if got := storage.SanitizeFilename(c.In); got != c.Out {
			t.Errorf("SanitizeFilename(%q) = %q, want %q", c.In, got, c.Out)
		}
	}
}

func TestSanitizeFilenameReplacesEachInvalidByte(t *testing.T) {
	t.Parallel()
	if got := storage.SanitizeFilename("a\xff\xfeb\xc3.txt"); got != "a__b_.txt" {
		t.Errorf("got %q", got)
	}
}

func FuzzSanitizeFilename(f *testing.F) {
	for _, s := range []string{"", ".", "..", "a/", "\\", "\x00", "é.pdf", strings.Repeat("a", 101) + ".pdf", "a\xff", "x/../y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		out := storage.SanitizeFilename(in)
		if out == "" || len(out) > storage.MaxFilenameBytes {
			t.Fatalf("SanitizeFilename(%q) = %q: %d bytes", in, out, len(out))
		}
		if out == "." || out == ".." {
			t.Fatalf("SanitizeFilename(%q) = %q names a directory", in, out)
		}
		for i := range len(out) {
			c := out[i]
			if c < 0x21 || c > 0x7e || c == '/' || c == '\\' {
				t.Fatalf("SanitizeFilename(%q) = %q holds byte %#x", in, out, c)
			}
		}
		if again := storage.SanitizeFilename(out); again != out {
			t.Fatalf("SanitizeFilename is not idempotent: %q, %q, %q", in, out, again)
		}
	})
}
