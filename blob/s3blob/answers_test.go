package s3blob_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
)

// answers is a store that answers what a test says.
type answers struct {
	s3blob.API
	get    func(*s3.GetObjectInput) (*s3.GetObjectOutput, error)
	delete func(*s3.DeleteObjectsInput) (*s3.DeleteObjectsOutput, error)
}

func (a answers) GetObject(_ context.Context, in *s3.GetObjectInput, _ ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	return a.get(in)
}

func (a answers) DeleteObjects(_ context.Context, in *s3.DeleteObjectsInput, _ ...func(*s3.Options)) (*s3.DeleteObjectsOutput, error) {
	return a.delete(in)
}

func stub(t *testing.T, a answers) *s3blob.Store {
	t.Helper()
	store, err := s3blob.New(s3blob.Config{Bucket: "b", Pool: pool(t, blob.PoolConfig{})}, a)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func TestShortTransferDoesNotLookComplete(t *testing.T) {
	t.Parallel()
	length := int64(10)
	for name, rest := range map[string]struct {
		body io.Reader
		want error
	}{
		"ends early":  {strings.NewReader("12345"), io.ErrUnexpectedEOF},
		"fails early": {io.MultiReader(strings.NewReader("12345"), iotest.ErrReader(errFault)), errFault},
		"complete":    {strings.NewReader("1234567890"), nil},
	} {
		store := stub(t, answers{get: func(*s3.GetObjectInput) (*s3.GetObjectOutput, error) {
			return &s3.GetObjectOutput{Body: io.NopCloser(rest.body), ContentLength: &length}, nil
		}})
		r, err := store.Open(t.Context(), "a", 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); !errors.Is(err, rest.want) {
			t.Errorf("%s: %v, want %v", name, err, rest.want)
		}
		r.Close()
	}
}

func TestIgnoredRangeIsAnError(t *testing.T) {
	t.Parallel()
	length := int64(10)
	store := stub(t, answers{get: func(*s3.GetObjectInput) (*s3.GetObjectOutput, error) {
		return &s3.GetObjectOutput{Body: io.NopCloser(strings.NewReader("1234567890")), ContentLength: &length}, nil
	}})
	if r, err := store.Open(t.Context(), "a", 3, 2); err == nil {
		r.Close()
		t.Error("a whole object was taken for a range")
	}
}

func TestDeleteReportsTheFirstKeyAndGoesOn(t *testing.T) {
	t.Parallel()
	keys := make([]string, 2500)
	for i := range keys {
		keys[i] = "key-" + string(rune('a'+i%26))
	}
	code := func(c string) *string { return &c }
	var batches []int
	store := stub(t, answers{delete: func(in *s3.DeleteObjectsInput) (*s3.DeleteObjectsOutput, error) {
		batches = append(batches, len(in.Delete.Objects))
		if len(batches) != 2 {
			return &s3.DeleteObjectsOutput{}, nil
		}
		return &s3.DeleteObjectsOutput{Errors: []types.Error{
			{Key: code("absent"), Code: code("NoSuchKey")},
			{Key: code("locked-1"), Code: code("AccessDenied")},
			{Key: code("locked-2"), Code: code("AccessDenied")},
		}}, nil
	}})
	err := store.Delete(t.Context(), keys...)
	if err == nil || !strings.Contains(err.Error(), "locked-1") {
		t.Errorf("Delete = %v, want an error that names locked-1", err)
	}
	if len(batches) != 3 || batches[0] != 1000 || batches[1] != 1000 || batches[2] != 500 {
		t.Errorf("batches of %v, want 1000, 1000, 500", batches)
	}
}
