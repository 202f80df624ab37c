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

// setContentHeaders describes the content. It is always an attachment: what an
// uploader chose must never render inside the platform's origin.
func setContentHeaders(h http.Header, rec storage.Record, sel selection) {
	h.Set("Content-Type", servedType(rec.MIMEType))
	h.Set("Content-Disposition", attachment(rec.Filename))
	h.Set("Content-Length", strconv.FormatInt(sel.span.Length, 10))
	h.Set("Accept-Ranges", "bytes")
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
func attachment(name string) string {
	var quoted, pct strings.Builder
	for _, r := range name {
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
