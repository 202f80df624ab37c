package blobtest

import (
	"fmt"
	"testing"
)

func testDeleteMany(t *testing.T, f fixture) {
	keys := f.putMany(t, "a/")
	f.put(t, f.key("stays"), body(1))
	for i := range 20 {
		keys = append(keys, f.key(fmt.Sprintf("a/absent/%d", i)))
	}
	if err := f.Delete(t.Context(), keys...); err != nil {
		t.Fatalf("Delete of %d keys: %v", len(keys), err)
	}
	f.absent(t, keys[0])
	f.holds(t, f.key("stays"), 1)
	if left := f.list(t, f.prefix); len(left) != 1 {
		t.Errorf("%d objects are left, want only the one that was not named", len(left))
	}
}

func testDeleteTwice(t *testing.T, f fixture) {
	a, b := f.key("a"), f.key("b")
	f.put(t, a, body(1))
	f.put(t, b, body(1))
	for range 2 {
		if err := f.Delete(t.Context(), a); err != nil {
			t.Errorf("Delete of one key: %v", err)
		}
	}
	for range 2 {
		if err := f.Delete(t.Context(), a, b); err != nil {
			t.Errorf("Delete of two keys: %v", err)
		}
	}
	f.empty(t, a, b)
}

func testDeleteNone(t *testing.T, f fixture) {
	if err := f.Delete(t.Context()); err != nil {
		t.Errorf("Delete(): %v", err)
	}
}
