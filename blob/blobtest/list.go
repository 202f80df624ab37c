package blobtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/molecule-ai/pendinguploads/blob"
)

// manyKeys is more than one page of S3, whose pages have 1,000 keys.
const manyKeys = 1050

func testList(t *testing.T, f fixture) {
	want := f.putMany(t, "in/")
	f.put(t, f.key("out/1"), body(1))
	f.put(t, f.key("inside"), body(1))

	var got []string
	for _, o := range f.list(t, f.key("in/")) {
		if o.Size != 1 {
			t.Errorf("%s is listed with %d bytes, want 1", o.Key, o.Size)
		}
		got = append(got, o.Key)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func testListLeftEarly(t *testing.T, f fixture) {
	for i := range 3 {
		f.put(t, f.key(fmt.Sprint(i)), body(1))
	}
	var got []string
	for o, err := range f.List(t.Context(), f.prefix) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, o.Key); len(got) == 2 {
			break
		}
	}
	if diff := cmp.Diff([]string{f.key("0"), f.key("1")}, got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var failed error
	for _, err := range f.List(ctx, f.prefix) {
		failed = err
	}
	if !errors.Is(failed, context.Canceled) {
		t.Errorf("a listing whose context ended: %v, want context.Canceled", failed)
	}
}

func testListNothing(t *testing.T, f fixture) {
	f.empty(t)
}

// putMany stores manyKeys objects of one byte in folders under name, and returns
// their keys in order.
func (f fixture) putMany(t *testing.T, name string) []string {
	t.Helper()
	keys := make([]string, manyKeys)
	for i := range keys {
		keys[i] = f.key(fmt.Sprintf("%s%d/%d", name, i%7, i))
	}
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(16)
	for _, key := range keys {
		group.Go(func() error { return f.Put(ctx, key, body(1), blob.PutOptions{}) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(keys)
	return keys
}
