package blobtest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"github.com/molecule-ai/pendinguploads/blob"
)

func headerCases() []promise {
	return []promise{
		{"a head tells what was put", testHead},
		{"a head of an absent object is ErrNotFound", testHeadAbsent},
		{"other content has another tag", testHeadTag},
	}
}

// head asks for an object that must be there.
func (f fixture) head(t *testing.T, key string) blob.Info {
	t.Helper()
	info, err := f.Store.(blob.Header).Head(t.Context(), key)
	if err != nil {
		t.Fatalf("Head(%s): %v", key, err)
	}
	return info
}

func testHead(t *testing.T, f fixture) {
	for _, size := range []int64{0, 1, 5*mib + 1} {
		key := f.key(fmt.Sprint(size))
		if err := f.Put(t.Context(), key, body(size), blob.PutOptions{ContentType: "text/x-test"}); err != nil {
			t.Fatal(err)
		}
		info := f.head(t, key)
		if info.Size != size || info.ContentType != "text/x-test" || info.LastModified.IsZero() || info.ETag == "" {
			t.Errorf("Head(%s) = %+v", key, info)
		}
		if want := sha256.Sum256(bytesAt(0, size)); info.SHA256 != nil && *info.SHA256 != want {
			t.Errorf("Head(%s): SHA-256 %x, want none or %x", key, *info.SHA256, want)
		}
	}
}

func testHeadAbsent(t *testing.T, f fixture) {
	info, err := f.Store.(blob.Header).Head(t.Context(), f.key("a"))
	if !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("Head = %+v, %v, want ErrNotFound", info, err)
	}
}

func testHeadTag(t *testing.T, f fixture) {
	for _, size := range []int64{9, 6 * mib} {
		key := f.key(fmt.Sprint(size))
		f.put(t, key, body(size))
		first := f.head(t, key).ETag
		if again := f.head(t, key).ETag; again != first {
			t.Errorf("%s has the tags %q and %q", key, first, again)
		}
		f.put(t, key, otherBody(size))
		if second := f.head(t, key).ETag; second == first {
			t.Errorf("%s keeps the tag %q with other content", key, first)
		}
	}
}
