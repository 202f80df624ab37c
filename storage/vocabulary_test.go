package storage_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/molecule-ai/pendinguploads/storage"
)

func TestIDsPrintInCanonicalFormWhateverTheSpelling(t *testing.T) {
	t.Parallel()
	const canonical = "0199a0b0-7c1e-7abc-8def-0123456789ab"
	for _, spelling := range []string{
		canonical,
		"0199A0B0-7C1E-7ABC-8DEF-0123456789AB",
		"{0199a0b0-7c1e-7abc-8def-0123456789ab}",
		"urn:uuid:0199a0b0-7c1e-7abc-8def-0123456789ab",
		"0199a0b07c1e7abc8def0123456789ab",
	} {
		ws, err := storage.ParseWorkspaceID(spelling)
		if err != nil || ws.String() != canonical {
			t.Errorf("ParseWorkspaceID(%q) = %v, %v", spelling, ws, err)
		}
		f, err := storage.ParseFileID(spelling)
		if err != nil || f.String() != canonical {
			t.Errorf("ParseFileID(%q) = %v, %v", spelling, f, err)
		}
	}
	for _, bad := range []string{"", "x", canonical + "0", "0199a0b0_7c1e-7abc-8def-0123456789ab"} {
		if _, err := storage.ParseWorkspaceID(bad); !errors.Is(err, storage.ErrInvalidID) {
			t.Errorf("ParseWorkspaceID(%q): %v, want ErrInvalidID", bad, err)
		}
		if _, err := storage.ParseFileID(bad); !errors.Is(err, storage.ErrInvalidID) {
			t.Errorf("ParseFileID(%q): %v, want ErrInvalidID", bad, err)
		}
	}
}

func TestDigestReadsWhatItPrintsInEitherCase(t *testing.T) {
	t.Parallel()
	const text = "00ff0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab"
	for _, spelling := range []string{text, strings.ToUpper(text)} {
		if d, err := storage.ParseDigest(spelling); err != nil || d.String() != text {
			t.Errorf("ParseDigest(%q) = %v, %v", spelling, d, err)
		}
	}
	for _, bad := range []string{"", text[1:], text[2:], text + "00", "g" + text[1:], " " + text[1:], "sha256:" + text} {
		if d, err := storage.ParseDigest(bad); err == nil || !d.IsZero() {
			t.Errorf("ParseDigest(%q) = %v, %v; want an error", bad, d, err)
		}
	}
}

func TestRangeResolve(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in, want storage.Range
		size     int64
		bad      bool
	}{
		{in: storage.Range{}, size: 10, want: storage.Range{Length: 10}},
		{in: storage.Range{Offset: 9}, size: 10, want: storage.Range{Offset: 9, Length: 1}},
		{in: storage.Range{Offset: 3, Length: 4}, size: 10, want: storage.Range{Offset: 3, Length: 4}},
		{in: storage.Range{Offset: 3, Length: 400}, size: 10, want: storage.Range{Offset: 3, Length: 7}},
		{in: storage.Range{Offset: 10}, size: 10, bad: true},
		{in: storage.Range{Offset: -1}, size: 10, bad: true},
		{in: storage.Range{Length: -1}, size: 10, bad: true},
	} {
		got, err := c.in.Resolve(c.size)
		if c.bad != errors.Is(err, storage.ErrRange) || (!c.bad && got != c.want) {
			t.Errorf("%+v of %d: %+v, %v", c.in, c.size, got, err)
		}
	}
}

func TestLimitsValidateNamesTheLimit(t *testing.T) {
	t.Parallel()
	if err := storage.DefaultLimits().Validate(); err != nil {
		t.Fatalf("the defaults are refused: %v", err)
	}
	for _, c := range []struct {
		limits storage.Limits
		ok     bool
	}{
		{storage.Limits{MaxFileBytes: 100 * storage.MiB, MaxRequestBytes: 101 * storage.MiB}, true},
		{storage.Limits{MaxFileBytes: 100*storage.MiB + 1, MaxRequestBytes: 200 * storage.MiB}, false},
		{storage.Limits{MaxFileBytes: 0, MaxRequestBytes: 1}, false},
		{storage.Limits{MaxFileBytes: 10, MaxRequestBytes: 10}, false},
	} {
		if err := c.limits.Validate(); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.limits, err)
		}
	}
}

func TestErrorsKeepTheirIdentityThroughWrapping(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("stage: %w", &storage.FileError{Index: 3, Filename: "a.bin", Err: &storage.TooLargeError{Size: 11, Max: 10}})
	if !errors.Is(err, storage.ErrTooLarge) {
		t.Error("not ErrTooLarge")
	}
	var file *storage.FileError
	var size *storage.TooLargeError
	if !errors.As(err, &file) || file.Index != 3 || !errors.As(err, &size) || size.Max != 10 {
		t.Errorf("lost in wrapping: %v", err)
	}
}
