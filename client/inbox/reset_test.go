package inbox_test

import (
	"bytes"
	"os"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/client/inbox"
)

// forgetful leaves nothing of a journal but its head and its last cursor, as if
// what it knew of files and messages had been pushed out by newer ones.
func forgetful(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
	head, last := lines[0], bytes.Replace(lines[len(lines)-1], []byte(`,"handled":true`), nil, 1)
	if !bytes.Contains(last, []byte(`"row":`)) {
		t.Fatalf("the journal ends with %s", last)
	}
	if err := os.WriteFile(path, append(append(head, last...), '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A feed that begins again, much longer than what is remembered row by row.
func TestWhatLiesBeforeTheMarkDoesNotComeAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// prepare handles a file and three messages, forgets all but where that was, and
	// takes the cursor's row away.
	prepare := func(t *testing.T) (*user, string) {
		u, dir := w.user(t), inboxDir(t)
		u.say("one", u.upload(blobFile{"a", content(10, 1)})...)
		u.say("two")
		u.say("three")
		in, e := u.inbox(dir, once)
		drain(t, in)
		if diff := cmp.Diff([]string{"one", "two", "three"}, e.texts()); diff != "" {
			t.Fatal(diff)
		}
		forgetful(t, dir+".journal")
		u.exec(`DELETE FROM activity_logs WHERE workspace_id = $1 AND request_body::text LIKE '%"three"%'`, u.id.String())
		return u, dir
	}
	t.Run("the same feed", func(t *testing.T) {
		t.Parallel()
		u, dir := prepare(t)
		u.say("four")
		in, e := u.inbox(dir, once)
		in.CompactAfter(1)
		drain(t, in)
		if diff := cmp.Diff([]string{"four"}, e.texts()); diff != "" || len(e.files) != 0 {
			t.Errorf("files %+v, messages (-want +got):\n%s", e.files, diff)
		}
		wantFolder(t, dir, listing{"a": digest(content(10, 1))})
		// The mark is in the compacted journal too.
		u.exec(`DELETE FROM activity_logs WHERE workspace_id = $1 AND request_body::text LIKE '%"four"%'`, u.id.String())
		u.say("five")
		again, e := u.inbox(dir, once)
		drain(t, again)
		if diff := cmp.Diff([]string{"five"}, e.texts()); diff != "" {
			t.Errorf("messages differ (-want +got):\n%s", diff)
		}
	})
	t.Run("a run that ends before the feed has a row", func(t *testing.T) {
		t.Parallel()
		u, dir := prepare(t)
		u.exec(`DELETE FROM activity_logs WHERE workspace_id = $1`, u.id.String())
		in, _ := u.inbox(dir, once)
		drain(t, in)
		u.say("late")
		// As old as nothing but a feed that begins again asks for.
		u.exec(`UPDATE activity_logs SET created_at = now() - interval '3 days' WHERE workspace_id = $1`, u.id.String())
		again, e := u.inbox(dir, once)
		drain(t, again)
		if diff := cmp.Diff([]string{"late"}, e.texts()); diff != "" {
			t.Errorf("messages differ (-want +got):\n%s", diff)
		}
	})
	t.Run("another feed that counts anew", func(t *testing.T) {
		t.Parallel()
		u, dir := prepare(t)
		u.exec(`DELETE FROM activity_logs WHERE workspace_id = $1`, u.id.String())
		b := content(20, 2)
		u.say("new", u.upload(blobFile{"b", b})...)
		u.exec(`UPDATE activity_logs SET seq = seq - 4 WHERE workspace_id = $1`, u.id.String())
		in, e := u.inbox(dir, once)
		drain(t, in)
		if diff := cmp.Diff([]string{"new"}, e.texts()); diff != "" {
			t.Errorf("messages differ (-want +got):\n%s", diff)
		}
		wantFolder(t, dir, listing{"a": digest(content(10, 1)), "b": digest(b)})
	})
}

// Without a row to begin with, and without numbers, files are gone on with as they
// were announced.
func TestFilesWithoutNumbersKeepTheirOrder(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	var want []string
	var files []blobFile
	for i := range 30 {
		name := strconv.Itoa(i * 7 % 30)
		files, want = append(files, blobFile{name, []byte("content of " + name)}), append(want, name)
	}
	u.upload(files...)
	// A run that gets the list and no content.
	in, _ := u.inbox(dir, once, u.via(u.world.through(t, noNumbers(true))))
	if err := in.Run(t.Context()); err == nil {
		t.Fatal("files came")
	}
	again, e := u.inbox(dir, once, u.via(u.world.through(t, noNumbers(false))), func(c *inbox.Config) { c.Fetchers = 1 })
	drain(t, again)
	var names []string
	for _, f := range e.files {
		names = append(names, f.Name)
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("the order differs (-want +got):\n%s", diff)
	}
}
