package handlers_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// A store that heeds headers which nobody signed: nothing is handed out.
func TestDirectUploadIsUnavailableWhereNothingBindsIt(t *testing.T) {
	t.Parallel()
	root := devstack.MinIO(t)
	w := newServerWith(t, setup{objects: func(c *s3blob.Config) {
		c.Bucket, c.Credentials = root.Bucket, credentials.NewStaticCredentialsProvider(root.AccessKey, root.SecretKey, root.SessionToken)
	}}, withDirect(""))
	ws, token := w.workspace("poll")
	got := w.postJSON(directPath(ws), token, map[string]any{"files": []askedFile{asked("a.txt", "hello")}})
	if got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, `"code":"direct_unavailable"`) || strings.Contains(got.body, "http://") {
		t.Errorf("%d %s", got.status, got.body)
	}
}
