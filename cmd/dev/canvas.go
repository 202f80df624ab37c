package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"mime/multipart"
	"net/textproto"
	"strings"

	"github.com/google/uuid"
)

// file is a file that the canvas sends.
type file struct {
	name     string
	mimeType string
	content  []byte
	sum      [sha256.Size]byte
	uri, id  string // given by the service
}

// newFile is a file of random content; size is in bytes.
func newFile(name, mimeType string, size int) file {
	content := make([]byte, size)
	_, _ = rand.Read(content) // never fails
	return file{name: name, mimeType: mimeType, content: content, sum: sha256.Sum256(content)}
}

// upload sends all files in one request and notes the URIs of the reply.
func upload(ctx context.Context, canvas api, workspace string, files []file) error {
	reader, writer := io.Pipe()
	form := multipart.NewWriter(writer)
	go func() { writer.CloseWithError(writeForm(form, files)) }()
	var reply struct {
		Files []struct {
			URI      string `json:"uri"`
			Name     string `json:"name"`
			MIMEType string `json:"mimeType"`
			Size     int    `json:"size"`
		} `json:"files"`
	}
	err := canvas.call(ctx, "POST", "/workspaces/"+workspace+"/chat/uploads", form.FormDataContentType(), reader, &reply)
	_ = reader.Close()
	if err != nil {
		return err
	}
	if len(reply.Files) != len(files) {
		return fmt.Errorf("upload: got %d files in the reply, want %d", len(reply.Files), len(files))
	}
	for i, got := range reply.Files {
		f := &files[i]
		id, ours := strings.CutPrefix(got.URI, "platform-pending:"+workspace+"/")
		if _, err := uuid.Parse(id); !ours || err != nil {
			return fmt.Errorf("upload: URI %q of %s is not of this workspace", got.URI, f.name)
		}
		if got.Name != f.name || got.MIMEType != f.mimeType || got.Size != len(f.content) {
			return fmt.Errorf("upload: got %s, %s, %d bytes, want %s, %s, %d bytes", got.Name, got.MIMEType, got.Size, f.name, f.mimeType, len(f.content))
		}
		f.uri, f.id = got.URI, id
	}
	return nil
}

func writeForm(form *multipart.Writer, files []file) error {
	for _, f := range files {
		header := textproto.MIMEHeader{}
		header.Set("Content-Disposition", multipart.FileContentDisposition("files", f.name))
		header.Set("Content-Type", f.mimeType)
		part, err := form.CreatePart(header)
		if err != nil {
			return err
		}
		if _, err := part.Write(f.content); err != nil {
			return err
		}
	}
	return form.Close()
}

// sendMessage posts the chat message that cites the files, as a canvas does:
// without an envelope.
func sendMessage(ctx context.Context, canvas api, workspace string, files []file) error {
	parts := []any{map[string]string{"kind": "text", "text": "please look at these"}}
	for _, f := range files {
		parts = append(parts, map[string]any{"kind": "file", "file": map[string]any{
			"name": f.name, "mimeType": f.mimeType, "uri": f.uri, "size": len(f.content),
		}})
	}
	var reply struct {
		Status       string `json:"status"`
		DeliveryMode string `json:"delivery_mode"`
	}
	err := canvas.postJSON(ctx, "/workspaces/"+workspace+"/a2a", map[string]any{
		"method": "message/send",
		"params": map[string]any{"message": map[string]any{"role": "user", "messageId": uuid.NewString(), "parts": parts}},
	}, &reply)
	if err != nil {
		return err
	}
	if reply.Status != "queued" || reply.DeliveryMode != "poll" {
		return fmt.Errorf("message: got status %q and mode %q, want queued and poll", reply.Status, reply.DeliveryMode)
	}
	return nil
}
