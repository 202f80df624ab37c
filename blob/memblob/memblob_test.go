package memblob_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/blobtest"
	"github.com/molecule-ai/pendinguploads/blob/memblob"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	blobtest.Run(t, func(*testing.T) blob.Store { return memblob.New() })
}

func TestSetModifiedDatesAnObject(t *testing.T) {
	t.Parallel()
	s := memblob.New()
	if err := s.Put(t.Context(), "a", strings.NewReader("x"), blob.PutOptions{ContentType: "text/plain"}); err != nil {
		t.Fatal(err)
	}
	want := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	if err := s.SetModified("a", want); err != nil {
		t.Fatal(err)
	}
	for o, err := range s.List(t.Context(), "") {
		if err != nil || !o.LastModified.Equal(want) {
			t.Errorf("LastModified = %v, %v, want %v", o.LastModified, err, want)
		}
	}
	if ct, err := s.ContentType("a"); ct != "text/plain" || err != nil {
		t.Errorf("ContentType = %q, %v", ct, err)
	}
	if err := s.SetModified("b", want); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("SetModified of an absent object = %v, want ErrNotFound", err)
	}
}
