package storage

import "strings"

// OctetStream is the type of content whose type is unknown or unusable.
const OctetStream = "application/octet-stream"

// ReduceMIMEType reduces a Content-Type to a bare type/subtype that is safe as
// a response header (contract 6): parameters and surrounding white space go;
// nothing left stays empty; anything that is not two non-empty halves of
// visible ASCII around one slash becomes OctetStream. Case is kept.
func ReduceMIMEType(contentType string) string {
	s, _, _ := strings.Cut(contentType, ";")
	s = strings.TrimSpace(s)
	if s == "" {
		return ""
	}
	for _, r := range s {
		if r < 0x21 || r > 0x7e {
			return OctetStream
		}
	}
	kind, sub, ok := strings.Cut(s, "/")
	if !ok || kind == "" || sub == "" || strings.Contains(sub, "/") {
		return OctetStream
	}
	return s
}

// maxObjectMIMEBytes is both halves at their longest and the slash (RFC 6838, 4.2).
// Object stores refuse headers of a few KiB.
const maxObjectMIMEBytes = 127 + 1 + 127

// ObjectMIMEType is the Content-Type of an object whose row has this one: the row
// keeps the type as it came, which no header may be able to carry. It is reduced
// (ReduceMIMEType), and OctetStream where it is longer than types are.
func ObjectMIMEType(contentType string) string {
	if s := ReduceMIMEType(contentType); len(s) <= maxObjectMIMEBytes {
		return s
	}
	return OctetStream
}

// AttachmentKind is the kind of attachment a MIME type shows as: image, audio,
// video or file (contract 6). The comparison is case-sensitive.
func AttachmentKind(mimeType string) string {
	for _, kind := range []string{"image", "audio", "video"} {
		if strings.HasPrefix(mimeType, kind+"/") {
			return kind
		}
	}
	return "file"
}
