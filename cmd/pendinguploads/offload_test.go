package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/molecule-ai/pendinguploads/blob"
)

// inlineRows adds live rows with inline content, as the reference software does.
func (s stack) inlineRows(t *testing.T, n, size int) {
	t.Helper()
	s.exec(t, `INSERT INTO pending_uploads (workspace_id, file_id, content, size_bytes, filename)
		SELECT $1, gen_random_uuid(), convert_to(repeat('x', $2), 'UTF8'), $2, 'a' FROM generate_series(1, $3)`, uuid.MustParse(s.workspace), size, n)
}

func (s stack) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	db, err := pgx.Connect(t.Context(), s.database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(t.Context()) }()
	if _, err := db.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func TestOffloadMovesVerifiesAndMovesBack(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.inlineRows(t, 20, 3000)
	s.inlineRows(t, 2, 100)
	env := append(s.env, "INLINE_MAX_BYTES=100")
	inBucket := func(want int) {
		t.Helper()
		if n, _ := s.inBucket(t); n != want {
			t.Errorf("%d objects, want %d", n, want)
		}
	}
	for _, c := range []struct {
		args    string
		want    string
		objects int
	}{
		{"--dry-run", "to move: rows=20 bytes=60000\n", 0},
		{"--dry-run --verify", "to verify: rows=0 bytes=0\n", 0},
		{"", "moved: rows=20 bytes=60000 left=0 held=0 corrupt=0 failed=0\n", 20},
		{"", "moved: rows=0 bytes=0 left=0 held=0 corrupt=0 failed=0\n", 20},
		{"--verify", "verified: rows=20 bytes=60000 left=0 held=0 corrupt=0 failed=0\n", 20},
		{"--dry-run --back", "to move: rows=0 bytes=0 above_limit=20\n", 20},
		{"--back --inline-max-bytes=3000", "moved: rows=20 bytes=60000 left=0 held=0 corrupt=0 failed=0 above_limit=0\n", 20},
		{"--inline-max-bytes=0 --workers=1 --batch=3 --rows-per-second=1e6 --bytes-per-second=1000000000", "moved: rows=22 bytes=60200 left=0 held=0 corrupt=0 failed=0\n", 22},
	} {
		if out := want0(t, env, append([]string{"offload"}, strings.Fields(c.args)...)...); out != c.want {
			t.Errorf("offload %s: %q, want %q", c.args, out, c.want)
		}
		inBucket(c.objects)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(want0(t, env, "offload", "--verify", "--json")), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"found": map[string]any{"rows": 22.0, "bytes": 60200.0}, "done": map[string]any{"rows": 22.0, "bytes": 60200.0},
		"left": 0.0, "held": 0.0, "corrupt": 0.0, "failed": 0.0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("--json (-want +got):\n%s", diff)
	}
}

func TestOffloadFailsWhereContentIsNotWhatWasStaged(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.inlineRows(t, 2, 3000)
	s.exec(t, `UPDATE pending_uploads SET sha256 = sha256('other') WHERE file_id = (SELECT file_id FROM pending_uploads LIMIT 1)`)
	out, stderr, code := result(t, s.env, "offload")
	if code != exitFailure || out != "moved: rows=1 bytes=3000 left=0 held=0 corrupt=1 failed=0\n" || !strings.Contains(stderr, "1 files are not what was staged") {
		t.Errorf("exit code %d\n%s%s", code, out, stderr)
	}
	store, _ := s.objects(t)
	for o, err := range store.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Put(t.Context(), o.Key, bytes.NewReader(make([]byte, 3000)), blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	out, stderr, code = result(t, s.env, "offload", "--verify")
	if code != exitFailure || out != "verified: rows=0 bytes=0 left=0 held=0 corrupt=1 failed=0\n" || !strings.Contains(stderr, "SHA-256") {
		t.Errorf("--verify: exit code %d\n%s%s", code, out, stderr)
	}
}

func TestOffloadRefusesWithOneLineThatNamesTheSetting(t *testing.T) {
	t.Parallel()
	const db = "DATABASE_URL=postgres://nobody@127.0.0.1:1/x"
	for _, c := range []struct {
		args string
		env  []string
		want string
		code int
	}{
		{"", nil, "DATABASE_URL", exitUsage},
		{"", []string{db}, "S3_BUCKET", exitUsage},
		{"--back", []string{db, "S3_BUCKET=b"}, "INLINE_MAX_BYTES", exitUsage},
		{"--back --verify", []string{db, "S3_BUCKET=b"}, "--verify", exitUsage},
		{"--workers=9", []string{db, "S3_BUCKET=b"}, "DATABASE_MAX_CONNS", exitUsage},
		{"--workers=0", []string{db, "S3_BUCKET=b"}, "--workers", exitUsage},
		{"--batch=257", []string{db, "S3_BUCKET=b"}, "--batch", exitUsage},
		{"--bytes-per-second=-1", []string{db, "S3_BUCKET=b"}, "--bytes-per-second", exitUsage},
		{"--rows-per-second=NaN", []string{db, "S3_BUCKET=b"}, "--rows-per-second", exitUsage},
	} {
		out, stderr, code := result(t, c.env, append([]string{"offload"}, strings.Fields(c.args)...)...)
		if code != c.code || out != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, c.want) {
			t.Errorf("offload %s: exit code %d, want %d and one line with %s:\n%s%s", c.args, code, c.code, c.want, out, stderr)
		}
	}
}
