package main

import (
	"strings"
	"testing"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// No policy binds MinIO's root user, so the service that runs as that one has no
// direct uploads; files arrive all the same.
func TestUploadDirectGoesThroughAServiceThatRunsAsMinIOsRoot(t *testing.T) {
	t.Parallel()
	s := newStackOn(t, devstack.MinIO(t))
	p := serve(t, s.env)
	a := file(t, t.TempDir(), "a.txt", "first")
	for range 2 {
		stdout, stderr, code := piped(t, s.user(t, p), "", "upload", "--direct", a)
		if code != 0 || len(lines(stdout)) != 1 || !strings.Contains(stderr, "direct upload is not available here") {
			t.Errorf("exit code %d:\n%s%s", code, stdout, stderr)
		}
	}
	const warning = "direct uploads are refused"
	if n := strings.Count(p.text(), warning); n != 1 || !strings.Contains(p.text(), "policy in docs/direct.md") {
		t.Errorf("%d warnings, want one that names the policy:\n%s", n, p.text())
	}
	p.stop(t)
}
