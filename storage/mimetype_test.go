package storage_test

import (
	"strings"
	"testing"

	"github.com/molecule-ai/pendinguploads/storage"
)

func TestReduceMIMEType(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"text/plain":                  "text/plain",
		"text/html; charset=utf-8":    "text/html",
		"Image/PNG":                   "Image/PNG",
		"":                            "",
		"; charset=x":                 "",
		"text":                        storage.OctetStream,
		"/plain":                      storage.OctetStream,
		"text/":                       storage.OctetStream,
		"a/b/c":                       storage.OctetStream,
		"text/pl ain":                 storage.OctetStream,
		"text/plain\r\nX: y":          storage.OctetStream,
		"text/plaïn":                  storage.OctetStream,
		" application/pdf ":           "application/pdf",
		"\u00a0application/pdf\u2003": "application/pdf",
		"text/plain\x7f":              storage.OctetStream,
		"text/\xff":                   storage.OctetStream,
		" ":                           "",
	} {
		if got := storage.ReduceMIMEType(in); got != want {
			t.Errorf("ReduceMIMEType(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestObjectMIMEType(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("a", 127) + "/" + strings.Repeat("b", 127)
	for in, want := range map[string]string{
		"text/html;\tcharset=utf-8": "text/html",
		"text":                      storage.OctetStream,
		"":                          "",
		longest:                     longest,
		longest + "b":               storage.OctetStream,
	} {
		if got := storage.ObjectMIMEType(in); got != want {
			t.Errorf("ObjectMIMEType(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestAttachmentKind(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"image/png": "image", "audio/ogg": "audio", "video/mp4": "video",
		"text/plain": "file", "": "file", "Image/PNG": "file", "imagex/y": "file",
	} {
		if got := storage.AttachmentKind(in); got != want {
			t.Errorf("AttachmentKind(%q) = %q, want %q", in, got, want)
		}
	}
}
