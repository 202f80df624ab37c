package storage

import "strings"

// maxExtBytes is the longest extension, dot included, that survives the cut of
// an over-long name (contract 5.1, rule 4).
const maxExtBytes = 16

// SanitizeFilename makes any text safe as a file name, by the rule that the
// workspaces apply as well (contract 5.1): what follows the last slash, every
// code point outside A-Z a-z 0-9 . _ - replaced by one underscore (an invalid
// UTF-8 byte too), cut to MaxFilenameBytes keeping a short extension, and
// "file" for what is then empty, "." or "..". Backslash is an ordinary
// character on every operating system. The result has 1 to MaxFilenameBytes
// bytes of that set, and applying the rule again changes nothing.
func SanitizeFilename(name string) string {
	name = name[strings.LastIndexByte(name, '/')+1:]
	name = strings.Map(func(r rune) rune {
		if isSafeRune(r) {
			return r
		}
		return '_'
	}, name)
	if len(name) > MaxFilenameBytes {
		ext := ""
		if dot := strings.LastIndexByte(name, '.'); dot >= 0 && len(name)-dot <= maxExtBytes {
			ext = name[dot:]
		}
		name = name[:MaxFilenameBytes-len(ext)] + ext
	}
	switch name {
	case "", ".", "..":
		return "file"
	}
	return name
}

func isSafeRune(r rune) bool {
	return 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' || '0' <= r && r <= '9' ||
		r == '.' || r == '_' || r == '-'
}
