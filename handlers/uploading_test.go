package handlers_test

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"
	"testing"

	"github.com/molecule-ai/pendinguploads/storage"
)

// part is one part of a multipart body.
type part struct {
	disposition string // default: form-data; name="files"; filename=NAME
	name        string
	mimeType    string
	content     string
}

// multipartBody builds a form and returns it with its Content-Type.
func multipartBody(t *testing.T, parts ...part) (body []byte, contentType string) {
	t.Helper()
	var b bytes.Buffer
	mw := multipart.NewWriter(&b)
	for _, p := range parts {
		h := textproto.MIMEHeader{}
		if p.disposition == "" {
			p.disposition = fmt.Sprintf(`form-data; name="files"; filename="%s"`, p.name)
		}
		h.Set("Content-Disposition", p.disposition)
		if p.mimeType != "" {
			h.Set("Content-Type", p.mimeType)
		}
		pw, err := mw.CreatePart(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(pw, p.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := mw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), mw.FormDataContentType()
}

func uploadPath(ws fmt.Stringer) string { return "/workspaces/" + ws.String() + "/chat/uploads" }

// upload posts files.
func (w *world) upload(ws storage.WorkspaceID, token string, parts ...part) reply {
	w.t.Helper()
	body, contentType := multipartBody(w.t, parts...)
	return w.do("POST", uploadPath(ws), token, bytes.NewReader(body), "Content-Type", contentType)
}

// staged is one element of the upload reply.
type staged struct {
	URI      string  `json:"uri"`
	Name     string  `json:"name"`
	MIMEType *string `json:"mimeType"`
	Size     int64   `json:"size"`
}

// path is the route of the staged file; action is content or ack.
func (s staged) path(action string) string {
	ids := strings.TrimPrefix(s.URI, "platform-pending:")
	ws, f, _ := strings.Cut(ids, "/")
	return "/workspaces/" + ws + "/pending-uploads/" + f + "/" + action
}

// mustUpload posts files and returns what was staged.
func (w *world) mustUpload(ws storage.WorkspaceID, token string, parts ...part) []staged {
	w.t.Helper()
	got := w.upload(ws, token, parts...)
	if got.status != http.StatusOK {
		w.t.Fatalf("upload: %d %s", got.status, got.body)
	}
	files := stagedFiles(w.t, got)
	if len(files) != len(parts) {
		w.t.Fatalf("%d files in the reply, want %d: %s", len(files), len(parts), got.body)
	}
	return files
}

// stagedFiles reads the upload reply.
func stagedFiles(t *testing.T, got reply) []staged {
	t.Helper()
	var body struct {
		Files []staged `json:"files"`
	}
	got.json(t, &body)
	return body.Files
}
