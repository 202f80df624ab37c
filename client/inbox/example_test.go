package inbox_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/client/inbox"
	"github.com/molecule-ai/pendinguploads/storage"
)

// exampleService has one staged file.
func exampleService(ws storage.WorkspaceID) *httptest.Server {
	file, base := "0190163d-8694-739b-aea5-966c26f8ad90", "/workspaces/"+ws.String()
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
	mux.HandleFunc("POST /", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{}`) })
	return httptest.NewServer(mux)
}

// With Once, Run ends when everything is here; without, it goes on until its
// context ends.
func Example() {
	ws := storage.WorkspaceID(uuid.MustParse("7f3c0a52-94a1-4f0b-9b8f-3f6d8b0c1e2d"))
	service := exampleService(ws)
	defer service.Close()
	parent, err := os.MkdirTemp("", "inbox-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(parent) }()

	c, err := client.New(client.Config{BaseURL: service.URL, Workspace: ws, Token: "secret"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	box, err := inbox.New(inbox.Config{
		Client: c, Dir: filepath.Join(parent, "inbox"),
		OnFile: func(f inbox.File) { fmt.Println(f.Name, f.Size, f.Err) },
		Follow: client.FollowConfig{Once: true},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := box.Run(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	content, err := os.ReadFile(filepath.Join(parent, "inbox", "note.txt"))
	fmt.Println(string(content), err)
	// Output:
	// note.txt 5 <nil>
	// hello <nil>
}
