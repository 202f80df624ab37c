package handlers

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"

	"github.com/molecule-ai/pendinguploads/storage"
)

// contentPolicy is enforced beside the policy of every reply: should a browser
// render content after all, it runs nothing, loads nothing and has no origin.
const contentPolicy = "default-src 'none'; sandbox"

// setContentHeaders describes the content. It is always an attachment: what an
// uploader chose must never render inside the platform's origin.
func setContentHeaders(h http.Header, rec storage.Record, sel selection) {
	h.Set("Content-Type", storage.ServedMIMEType(rec.MIMEType))
	h.Set("Content-Disposition", storage.Attachment(rec.Filename))
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
