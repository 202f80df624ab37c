package storage

import (
	"fmt"
	"mime"
	"strings"
	"time"
	"unicode"
)

// URLOptions are those of a URL that serves the record as the service itself
// does: as an attachment under its name, with its type, in headers that any store
// takes.
func (r Record) URLOptions(ttl time.Duration) URLOptions {
	contentType := ServedMIMEType(r.MIMEType)
	if strings.ContainsFunc(contentType, func(r rune) bool { return r > '~' }) {
		contentType = OctetStream
	}
	// In the quoted name, which only old clients use, _ stands for all that stores
	// may refuse or spoil.
	simple := strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII {
			return '_'
		}
		return r
	}, r.Filename)
	return URLOptions{TTL: ttl, ContentType: contentType, ContentDisposition: disposition(simple, r.Filename)}
}

// ServedMIMEType is the stored type if it is fit for a header. Rows of other
// software may hold types that were never checked.
func ServedMIMEType(stored string) string {
	if stored == "" {
		return OctetStream
	}
	if _, _, err := mime.ParseMediaType(stored); err != nil || strings.ContainsFunc(stored, unicode.IsControl) {
		stored = ReduceMIMEType(stored)
	}
	if stored == "" {
		return OctetStream
	}
	return stored
}

// Attachment is a Content-Disposition that is safe for any name (contract 2.6):
// once quoted, once percent-encoded for everything outside plain ASCII.
func Attachment(name string) string { return disposition(name, name) }

// disposition has one name in quotes, for clients that know no other form, and
// one that is percent-encoded.
func disposition(simple, name string) string {
	var quoted, pct strings.Builder
	for _, r := range simple {
		switch {
		case unicode.IsControl(r):
		case r == '"' || r == '\\':
			quoted.WriteByte('\\')
			quoted.WriteRune(r)
		default:
			quoted.WriteRune(r)
		}
	}
	for i := range len(name) {
		if c := name[i]; isUnreserved(c) {
			pct.WriteByte(c)
		} else {
			fmt.Fprintf(&pct, "%%%02X", c)
		}
	}
	return `attachment; filename="` + quoted.String() + `"; filename*=UTF-8''` + pct.String()
}

func isUnreserved(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}
