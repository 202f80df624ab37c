package s3blob_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/blob"
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
