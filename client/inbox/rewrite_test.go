package inbox_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/client/inbox"
	"github.com/molecule-ai/pendinguploads/storage"
)

func local(uri string) (string, bool) {
	known := map[string]string{"platform-pending:w/f": `workspace:/in/a "b".txt`, "platform-pending:w/g": "file:///in/%3C&.txt"}
	to, ok := known[uri]
	return to, ok
}

func TestRewriteTouchesWholeStringsAlone(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`"platform-pending:w/f"`:         `"workspace:/in/a \"b\".txt"`,
		`{"uri":"platform-pending:w/f"}`: `{"uri":"workspace:/in/a \"b\".txt"}`,
		`{"params":{"message":{"parts":[{"file":{"uri":"platform-pending:w/g","size":1e2}}]}}}`: `{"params":{"message":{"parts":[{"file":{"uri":"file:///in/%3C&.txt","size":1e2}}]}}}`,
		`["platform-pending:w/f","platform-pending:w/g"]`:                                       `["workspace:/in/a \"b\".txt","file:///in/%3C&.txt"]`,
		`"platform\u002dpending:w\/f"`:                                                          `"workspace:/in/a \"b\".txt"`,
		`{"platform-pending:w/f":1}`:                                                            ``,
		`{"platform-pending:w/f" : "platform-pending:w/f"}`:                                     `{"platform-pending:w/f" : "workspace:/in/a \"b\".txt"}`,
		`" platform-pending:w/f"`:                                                               ``,
		`"see platform-pending:w/f"`:                                                            ``,
		`"platform-pending:w/h"`:                                                                ``,
		`{ "b" : 1.10 ,"a":"\u00e9\/", "n": 12345678901234567890 }`:                             ``,
		`{"t":"say \"platform-pending:w/f\" aloud"}`:                                            ``,
		`{"t":"\\"}`: ``, `null`: ``, `""`: ``, ``: ``, `{"uri":`: ``, `"platform-pending:w/f`: ``,
	} {
		if want == "" {
			want = in
		}
		if got := string(inbox.Rewrite(json.RawMessage(in), local)); got != want {
			t.Errorf("rewrite of %s is %s, want %s", in, got, want)
		}
	}
}

// What comes out is the same value with the known strings replaced, and the same
// bytes where there are none.
func FuzzRewrite(f *testing.F) {
	for _, seed := range []string{
		`{"uri":"platform-pending:w/f","n":[1.0,"x\\\"platform-pending:w/f"]}`, `["platform-pending:w/g",{"platform-pending:w/f":"\ud83d\ude00"}]`,
		`"\"platform-pending:w/f"`, ` {"a" : "\u0070latform-pending:w/f" } `, `{"a":"\ud800"}`, "\"\xff\"",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		in := json.RawMessage(text)
		got := inbox.Rewrite(in, local)
		if !json.Valid(in) {
			if !bytes.Equal(got, in) {
				t.Errorf("%q is no JSON and became %q", in, got)
			}
			return
		}
		if !json.Valid(got) {
			t.Fatalf("%q became %q, which is no JSON", in, got)
		}
		before, after := flatten(t, in), flatten(t, got)
		replaced := false
		for i, v := range before {
			if uri, ok := v.(string); ok {
				if to, ok := local(uri); ok {
					before[i], replaced = to, true
				}
			}
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("%q became %q (-want +got):\n%s", in, got, diff)
		}
		if !replaced && !bytes.Equal(got, in) {
			t.Errorf("%q became %q", in, got)
		}
	})
}

// key is the name of a member.
type key string

// flatten lists what a text consists of, in order.
func flatten(t *testing.T, text []byte) []any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var all []any
	next := func() any {
		token, err := d.Token()
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		return token
	}
	var value func()
	value = func() {
		token := next()
		all = append(all, token)
		switch token {
		case json.Delim('{'):
			for d.More() {
				name, _ := next().(string)
				all = append(all, key(name))
				value()
			}
			all = append(all, next())
		case json.Delim('['):
			for d.More() {
				value()
			}
			all = append(all, next())
		}
	}
	value()
	return all
}

func TestFolderNames(t *testing.T) {
	t.Parallel()
	for announced, want := range map[string]string{
		"a.txt": "a.txt", "dir/ü.txt": "_.txt", "": "file", "..": "file", "CON": "_CON", "com1.tar.gz": "_com1.tar.gz",
		"COM": "COM", "console.log": "console.log", ".Pendinguploads-x": "_.Pendinguploads-x", ".bashrc": ".bashrc",
	} {
		if got := inbox.FolderName(announced); got != want {
			t.Errorf("%q is named %q, want %q", announced, got, want)
		}
	}
	long := strings.Repeat("n", storage.MaxFilenameBytes-4) + ".txt"
	for name, want := range map[string]string{
		"a.txt": "a-12.txt", "a": "a-12", ".bashrc": ".bashrc-12", "a.tar.gz": "a.tar-12.gz",
		long: strings.Repeat("n", storage.MaxFilenameBytes-7) + "-12.txt",
	} {
		if got := inbox.Numbered(name, 12); got != want || len(got) > storage.MaxFilenameBytes {
			t.Errorf("the twelfth %q is %q, want %q", name, got, want)
		}
	}
	if got := inbox.Numbered("a.txt", 1); got != "a.txt" {
		t.Errorf("the first is %q", got)
	}
}
