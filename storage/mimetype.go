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
