package keys_test

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/servertest"
	"github.com/molecule-ai/pendinguploads/storage"
)

func TestMain(m *testing.M) { servertest.Main(m, func() error { return goleak.Find() }) }

// object is what is seen of one.
type object struct {
	Key         string
	Size        int64
	ContentType string // empty where the tool shows none
}

const prefix = "team/pending-uploads"

// stage fills a bucket through a server, by both ways in, and returns its objects
// as the documentation says they are, in the order of their keys.
func stage(t *testing.T, bucket devstack.S3) []object {
	t.Helper()
	stack := servertest.NewStackOn(t, bucket, "S3_PREFIX="+prefix)
	server := stack.Serve(t)
	var want []object
	add := func(ws storage.WorkspaceID, files []wire.UploadedFile, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			id, ok := strings.CutPrefix(f.URI, fmt.Sprintf("platform-pending:%s/", ws))
			if !ok {
				t.Fatalf("%s is not of workspace %s", f.URI, ws)
			}
			want = append(want, object{fmt.Sprintf("%s/%s/%s", prefix, ws, id), f.Size, f.MIMEType})
		}
	}
	for _, name := range []string{"first", "second"} {
		ws, token := stack.Workspace(t, name)
		c := server.Client(t, ws, token)
		files, err := c.Upload(t.Context(), []client.File{
			file("ü b?c/report 1.pdf", "application/pdf", 10), file("same.txt", "text/plain; charset=utf-8", 1), file("same.txt", "text/plain", 6<<20),
		}, client.UploadOptions{})
		add(ws, files, err)
		files, err = c.UploadDirect(t.Context(), []client.File{file("direct.png", "image/png", 300<<10)}, client.DirectOptions{})
		add(ws, files, err)
	}
	slices.SortFunc(want, func(a, b object) int { return strings.Compare(a.Key, b.Key) })
	return want
}

func file(name, mimeType string, size int) client.File {
	content := bytes.Repeat([]byte("x"), size)
	return client.File{Name: name, MIMEType: mimeType, Size: int64(size), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}}
}

func TestBucketHoldsTheDocumentedKeys(t *testing.T) {
	t.Parallel()
	devstack.EachS3User(t, func(t *testing.T, bucket devstack.S3) {
		want := stage(t, bucket)
		c := bucket.Client()
		list, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(bucket.Bucket)})
		if err != nil {
			t.Fatal(err)
		}
		var got []object
		for _, o := range list.Contents {
			head, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(bucket.Bucket), Key: o.Key})
			if err != nil {
				t.Fatal(err)
			}
			if size := aws.ToInt64(head.ContentLength); size != aws.ToInt64(o.Size) {
				t.Errorf("%s has %d bytes, listed with %d", *o.Key, size, *o.Size)
			}
			got = append(got, object{*o.Key, *o.Size, aws.ToString(head.ContentType)})
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}
