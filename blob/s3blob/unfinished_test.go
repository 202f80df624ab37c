package s3blob_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

func TestUnfinishedUploadsAreListedAndAborted(t *testing.T) {
	t.Parallel()
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		store := open(t, config(t, server))
		before := time.Now()
		want := make(map[string]string)
		for _, key := range []string{"in/a", "in/b/c", "in/b/d", "out/e"} {
			out, err := client(server).CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &server.Bucket, Key: &key})
			if err != nil {
				t.Fatal(err)
			}
			want[key] = *out.UploadId
		}
		outside := blob.Unfinished{Key: "out/e", UploadID: want["out/e"]}
		delete(want, outside.Key)

		got := make(map[string]string)
		for u, err := range store.ListUnfinished(t.Context(), "in/") {
			if err != nil {
				t.Fatal(err)
			}
			got[u.Key] = u.UploadID
			if age := before.Sub(u.Initiated).Abs(); age > time.Hour {
				t.Errorf("%s is dated %v", u.Key, u.Initiated)
			}
			for range 2 { // the second time it is gone
				if err := store.AbortUnfinished(t.Context(), u); err != nil {
					t.Error(err)
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("unfinished under the prefix (-want +got):\n%s", diff)
		}
		if err := store.AbortUnfinished(t.Context(), outside); err != nil {
			t.Error(err)
		}
		empty(t, store)
	})
}

// leafing lists two uploads a page, where the store has pages.
type leafing struct{ s3blob.API }

func (l leafing) ListMultipartUploads(ctx context.Context, in *s3.ListMultipartUploadsInput, o ...func(*s3.Options)) (*s3.ListMultipartUploadsOutput, error) {
	two := *in
	two.MaxUploads = aws.Int32(2)
	return l.API.ListMultipartUploads(ctx, &two, o...)
}

// More than a page of them, and the last of a page is gone when the next one is
// asked for.
func TestUnfinishedUploadsAreListedToTheEnd(t *testing.T) {
	t.Parallel()
	devstack.EachS3(t, func(t *testing.T, server devstack.S3) {
		store, err := s3blob.New(config(t, server), leafing{client(server)})
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"in/a", "in/b", "in/c", "in/d", "in/e"}
		for _, key := range want {
			if _, err := store.CreateParts(t.Context(), key, blob.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		for _, abort := range []bool{false, true} {
			var got []string
			for u, err := range store.ListUnfinished(t.Context(), "in/") {
				if err != nil {
					t.Fatal(err)
				}
				if got = append(got, u.Key); abort {
					if err := store.AbortUnfinished(t.Context(), u); err != nil {
						t.Error(err)
					}
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("aborted on the way: %t: (-want +got)\n%s", abort, diff)
			}
		}
		empty(t, store)
	})
}
