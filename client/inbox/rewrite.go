package inbox

import (
	"bytes"
	"encoding/json"
)

// rewrite replaces string values of a JSON text. replace is asked about each
// string that is a value as a whole; keys and parts of strings are left alone, and
// so is every byte that is not replaced. What is not JSON comes back as it is.
func rewrite(text json.RawMessage, replace func(string) (string, bool)) json.RawMessage {
	if !json.Valid(text) {
		return text
	}
	var out []byte
	copied := 0
	for i := 0; i < len(text); i++ {
		if text[i] != '"' {
			continue
		}
		end := literalEnd(text, i)
		literal := text[i:end]
		if !isKey(text, end) {
			if value, ok := unquote(literal); ok {
				if with, ok := replace(value); ok {
					out = append(append(out, text[copied:i]...), quote(with)...)
					copied = end
				}
			}
		}
		i = end - 1
	}
	if copied == 0 {
		return text
	}
	return append(out, text[copied:]...)
}

// literalEnd is the index behind the string that begins at i.
func literalEnd(text []byte, i int) int {
	for i++; text[i] != '"'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// isKey reports that the string that ended at i names a member.
func isKey(text []byte, i int) bool {
	rest := bytes.TrimLeft(text[i:], " \t\r\n")
	return len(rest) > 0 && rest[0] == ':'
}

func unquote(literal []byte) (string, bool) {
	if bytes.IndexByte(literal, '\\') < 0 {
		return string(literal[1 : len(literal)-1]), true
	}
	var s string
	if err := json.Unmarshal(literal, &s); err != nil {
		return "", false
	}
	return s, true
}

func quote(s string) []byte {
	var buf bytes.Buffer
	encoder := json.NewEncoder(&buf)
	encoder.SetEscapeHTML(false)
	// A string always encodes.
	_ = encoder.Encode(s)
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}
