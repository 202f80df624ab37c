package inbox_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/client/inbox"
)

func TestDamagedJournals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lines := func(text []byte) [][]byte { return bytes.SplitAfter(text, []byte("\n")) }
	for name, c := range map[string]struct {
		damage func([]byte) []byte
		want   string // the error has it; empty: none
	}{
		"torn last line":    {func(b []byte) []byte { return append(b, `{"row":"x`...) }, ""},
		"garbled last line": {func(b []byte) []byte { return append(b, "\x00\x00\x00\n"...) }, ""},
		"cut anywhere":      {func(b []byte) []byte { return b[:len(b)-3] }, ""},
		"damaged middle": {func(b []byte) []byte {
			l := lines(b)
			l[2] = []byte("{\"row\n")
			return bytes.Join(l, nil)
		}, "line 3 is damaged"},
		"damaged head":           {func(b []byte) []byte { return append([]byte("x"), b...) }, "line 1 is damaged"},
		"something else":         {func([]byte) []byte { return []byte("my diary") }, "does not begin as a journal"},
		"something else, JSON":   {func([]byte) []byte { return []byte("{}\n{}\n") }, "does not begin as a journal"},
		"of a later version":     {func(b []byte) []byte { return bytes.Replace(b, []byte(`{"v":1`), []byte(`{"v":2`), 1) }, "its format is 2"},
		"of another workspace":   {func(b []byte) []byte { return replaceWorkspace(b) }, "it is that of workspace 01020304"},
		"empty begins from anew": {func([]byte) []byte { return nil }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := w.user(t)
			dir := inboxDir(t)
			b := content(10, 1)
			u.say("one", u.upload(blobFile{"a", b})...)
			in, _ := u.inbox(dir, once)
			drain(t, in)
			text, err := os.ReadFile(dir + ".journal")
			if err != nil {
				t.Fatal(err)
			}
			damaged := c.damage(bytes.Clone(text))
			if err := os.WriteFile(dir+".journal", damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			u.say("two")
			again, e := u.inbox(dir, once)
			err = again.Run(t.Context())
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir+".journal") {
					t.Errorf("Run ended with %v, want %s", err, c.want)
				}
				if now, err := os.ReadFile(dir + ".journal"); err != nil || !bytes.Equal(now, damaged) {
					t.Errorf("the file was changed: %q, %v", now, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := e.texts(); len(got) == 0 || got[len(got)-1] != "two" {
				t.Errorf("messages %q", got)
			}
			wantFolder(t, dir, listing{"a": digest(b)})
			last, f := u.inbox(dir, once)
			drain(t, last)
			if got := f.texts(); len(got) != 0 {
				t.Errorf("messages %q came again", got)
			}
		})
	}
}

// replaceWorkspace makes the journal that of another workspace.
func replaceWorkspace(b []byte) []byte {
	i := bytes.Index(b, []byte(`"workspace":"`)) + len(`"workspace":"`)
	return append(append(bytes.Clone(b[:i]), "01020304-0000-4000-8000-000000000000"...), b[i+36:]...)
}

// A journal that is written anew all the time knows as much as one that grows,
// and stays small.
func TestTheJournalStaysSmall(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	want := listing{}
	var texts []string
	var got []string
	for round := range 4 {
		for i := range 5 {
			b := content(10+i, uint64(round*10+i))
			name := fmt.Sprintf("%d-%d", round, i)
			want[name] = digest(b)
			u.say("about "+name, u.upload(blobFile{name, b})...)
			texts = append(texts, "about "+name)
		}
		in, e := u.inbox(dir, once)
		in.CompactAfter(3)
		drain(t, in)
		got = append(got, e.texts()...)
	}
	if diff := cmp.Diff(texts, got); diff != "" {
		t.Errorf("messages differ (-want +got):\n%s", diff)
	}
	wantFolder(t, dir, want)
	text, err := os.ReadFile(dir + ".journal")
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(text, []byte("\n")); n > 2*30 {
		t.Errorf("the journal has %d lines for 20 files", n)
	}
	if info, err := os.Stat(dir + ".journal"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the journal is %v, %v", info.Mode(), err)
	}
}

func TestURIsStayKnownAfterARestart(t *testing.T) {
	t.Parallel()
	u := newWorld(t).user(t)
	dir := inboxDir(t)
	files := u.upload(blobFile{"a b.txt", content(10, 1)})
	in, _ := u.inbox(dir, once)
	drain(t, in)
	u.say("later", files...)
	next, e := u.inbox(dir, once, func(c *inbox.Config) { c.URIStyle = inbox.StyleFile })
	drain(t, next)
	if len(e.messages) != 1 || len(e.messages[0].Files) != 1 || e.messages[0].Files[0].LocalURI != "file://"+dir+"/a_b.txt" {
		t.Errorf("messages %+v", e.messages)
	}
}
