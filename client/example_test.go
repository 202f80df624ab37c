package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/storage"
)

// exampleService has one staged file, and takes uploads.
func exampleService(ws storage.WorkspaceID) *httptest.Server {
	file := "0190163d-8694-739b-aea5-966c26f8ad90"
	base := "/workspaces/" + ws.String()
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+base+"/activity", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("since_id") != "" || r.URL.Query().Get("before_ts") != "" {
			_, _ = io.WriteString(w, "[]")
			return
		}
		_, _ = fmt.Fprintf(w, `[{"id":"row-1","method":"chat_upload_receive","created_at":"2026-01-01T00:00:00Z","seq":1,`+
			`"request_body":{"file_id":%q,"name":"note.txt","size":5}}]`, file)
	})
	mux.HandleFunc("GET "+base+"/pending-uploads/"+file+"/content", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	})
	mux.HandleFunc("POST "+base+"/pending-uploads/"+file+"/ack", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"acked":true}`)
	})
	mux.HandleFunc("POST "+base+"/chat/uploads", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprintf(w, `{"files":[{"uri":"platform-pending:%v/%s","name":"report.txt","size":11}]}`, ws, file)
	})
	mux.HandleFunc("POST "+base+"/a2a", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"status":"queued"}`)
	})
	return httptest.NewServer(mux)
}

func exampleClient() (*client.Client, func()) {
	ws := storage.WorkspaceID(uuid.MustParse("7f3c0a52-94a1-4f0b-9b8f-3f6d8b0c1e2d"))
	service := exampleService(ws)
	c, err := client.New(client.Config{BaseURL: service.URL, Workspace: ws, Token: "secret"})
	if err != nil {
		panic(err)
	}
	return c, func() { c.Close(); service.Close() }
}

// Follow yields the feed's rows in order. Once ends it when there is nothing more;
// without it the loop waits for what comes.
func ExampleClient_Follow() {
	c, done := exampleClient()
	defer done()
	ctx := context.Background()
	for row, err := range c.Follow(ctx, client.FollowConfig{Once: true}) {
		if err != nil {
			fmt.Println("the service refuses:", err)
			return
		}
		var m wire.UploadManifest
		if *row.Method != wire.MethodChatUpload || json.Unmarshal(row.RequestBody, &m) != nil {
			continue
		}
		file, err := storage.ParseFileID(m.FileID)
		if err != nil {
			continue
		}
		got, err := c.Fetch(ctx, file, client.WriterSink(os.Stdout), client.FetchOptions{})
		if err != nil {
			fmt.Println(err)
			continue
		}
		if _, err := c.Ack(ctx, file, &got.Received); err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Printf("\n%s has %d bytes\n", m.Name, got.Size)
		// row.ID is the cursor to begin behind the next time.
	}
	// Output:
	// hello
	// note.txt has 5 bytes
}

// Upload stages files, Send posts the message that cites them.
func ExampleClient_Upload() {
	c, done := exampleClient()
	defer done()
	ctx := context.Background()
	files, err := c.Upload(ctx, []client.File{{
		Name: "report.txt", MIMEType: "text/plain", Size: 11,
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader([]byte("hello world"))), nil },
	}}, client.UploadOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(strings.SplitN(files[0].URI, ":", 2)[0], files[0].Name)
	if err := c.Send(ctx, client.Message{Text: "please look", Files: files}); err != nil {
		fmt.Println(err)
	}
	// Output: platform-pending report.txt
}
