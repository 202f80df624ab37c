package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// plistKeys parses a property list and returns its keys.
func plistKeys(t *testing.T, text string) []string {
	t.Helper()
	var keys []string
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return keys
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "key" {
			var key string
			if err := d.DecodeElement(&key, &e); err != nil {
				t.Fatal(err)
			}
			keys = append(keys, key)
		}
	}
}

// The service managers' files start the program in a way that it understands.
func TestDeployedFilesAreWellFormed(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..", "deploy")
	unit := readFile(t, filepath.Join(root, "pendinguploads-inbox.service"))
	list := readFile(t, filepath.Join(root, "com.molecule-ai.pendinguploads.inbox.plist"))
	help := want0(t, nil, "inbox", "--help")
	for name, text := range map[string]string{"unit": unit, "plist": list} {
		if !strings.Contains(text, `pendinguploads`) || !strings.Contains(text, " inbox --dir ") || !strings.Contains(help, "--dir=DIR") {
			t.Errorf("%s does not start the inbox:\n%s", name, text)
		}
	}
	for line := range strings.Lines(unit) {
		// A home folder's name may have a blank in it.
		if name, value, _ := strings.Cut(line, "="); (name == "Environment" || name == "ExecStart") && !strings.HasPrefix(value, `"`) {
			t.Errorf("unit: %s is not quoted: %s", name, line)
		}
	}
	section := ""
	for i, line := range lines(unit) {
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]"):
			section = line
		case section == "" || !strings.Contains(line, "="):
			t.Errorf("unit, line %d: %q", i+1, line)
		}
	}
	keys := plistKeys(t, list)
	for _, key := range []string{"Label", "ProgramArguments", "RunAtLoad", "KeepAlive", "ExitTimeOut"} {
		if !slices.Contains(keys, key) {
			t.Errorf("plist: no %s among %q", key, keys)
		}
	}
}
