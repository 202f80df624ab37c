package handlers

import (
	"encoding/base64"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"unicode"

	"github.com/molecule-ai/pendinguploads/storage"
)

// contentPolicy is enforced beside the policy of every reply: should a browser
// render content after all, it runs nothing, loads nothing and has no origin.
const contentPolicy = "default-src 'none'; sandbox"

// setContentHeaders describes the content. It is always an attachment: what an
// uploader chose must never render inside the platform's origin.
func setContentHeaders(h http.Header, rec storage.Record, sel selection) {
	h.Set("Content-Type", servedType(rec.MIMEType))
	h.Set("Content-Disposition", attachment(rec.Filename))
	h.Set("Content-Length", strconv.FormatInt(sel.span.Length, 10))
	h.Set("Accept-Ranges", "bytes")
	h.Add("Content-Security-Policy", contentPolicy)
	if sel.status == http.StatusPartialContent {
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", sel.span.Offset, sel.span.Offset+sel.span.Length-1, rec.Content.Size))
	}
	if d := rec.Content.SHA256; !d.IsZero() {
		// Of the whole content, whatever part of it is sent (RFC 9530, 3).
		h.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(d[:])+":")
	}
	setValidators(h, rec.Content)
}

// setValidators lets the client keep the content and ask whether it still has
// it. Each use is to be asked for: tokens are revoked and files acked.
func setValidators(h http.Header, content storage.Content) {
	h.Set("Cache-Control", "private, no-cache")
	if etag := entityTag(content); etag != "" {
		h.Set("ETag", etag)
	}
}

// servedType is the stored type if it is fit for a header. Rows of other
// software may hold types that were never checked.
func servedType(stored string) string {
	if stored == "" {
		return storage.OctetStream
	}
	if _, _, err := mime.ParseMediaType(stored); err != nil || strings.ContainsFunc(stored, unicode.IsControl) {
		stored = storage.ReduceMIMEType(stored)
	}
	if stored == "" {
		return storage.OctetStream
	}
	return stored
}

// attachment is a Content-Disposition that is safe for any name (contract 2.6):
// once quoted, once percent-encoded for everything outside plain ASCII.
func attachment(name string) string { return disposition(name, name) }

// asciiAttachment is attachment for a header that others send: in the quoted name,
// which only old clients use, _ stands for all that stores may refuse or spoil.
func asciiAttachment(name string) string {
	return disposition(strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII {
			return '_'
		}
		return r
	}, name), name)
}

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
