package main

import (
	"strings"
	"testing"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

func TestUploadAboveTheQuotaSaysHowFullTheWorkspaceIs(t *testing.T) {
	t.Parallel()
	s := newStackOn(t, devstack.MinIOUser(t))
	p := serve(t, append(s.env, "MAX_FILE_BYTES=1000", "MAX_REQUEST_BYTES=20000", "WORKSPACE_MAX_BYTES=1000", "WORKSPACE_MAX_FILES=2", "S3_PUBLIC_ENDPOINT="+s.s3.Endpoint))
	env := s.user(t, p)
	dir := t.TempDir()
	a, b, c := file(t, dir, "a.txt", "first"), file(t, dir, "b.txt", "second"), file(t, dir, "c.txt", "third")
	want0(t, env, "upload", a, b)
	const line = "status 413: workspace quota exceeded (11 of 1000 bytes in 2 of 2 files wait to be acked)"
	for _, way := range [][]string{{"upload", "--quiet", c}, {"upload", "--quiet", "--direct", c}} {
		stdout, stderr, code := result(t, env, way...)
		if code != exitRefused || stdout != "" || len(lines(stderr)) != 1 || !strings.Contains(stderr, line) {
			t.Errorf("%v: exit code %d, want one line with %s:\n%s%s", way, code, line, stdout, stderr)
		}
	}
	if n := s.rows(t, "pending_uploads"); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
	p.stop(t)
}
