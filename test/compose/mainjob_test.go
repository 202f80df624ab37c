//go:build compose

package compose_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// caller calls the service with a token.
type caller struct{ base, token string }

// call sends a request, wants the status, and returns the body.
func (c caller) call(t *testing.T, method, path, contentType string, body io.Reader, want int) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, c.base+path, body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	reply, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != want {
		t.Fatalf("%s %s: status %d, want %d: %.300s", method, path, response.StatusCode, want, reply)
	}
	return reply
}

// mainJob registers a workspace, uploads, polls, fetches and acks.
func mainJob(t *testing.T, base string) {
	t.Helper()
	admin, workspace := caller{base, adminToken}, uuid.NewString()
	var registered struct {
		AuthToken string `json:"auth_token"`
	}
	decode(t, admin.call(t, http.MethodPost, "/registry/register", "application/json",
		strings.NewReader(`{"id":"`+workspace+`","agent_card":{"name":"compose"},"delivery_mode":"poll"}`), http.StatusOK), &registered)
	poller := caller{base, registered.AuthToken}

	content := make([]byte, 6<<20) // more than one part of an S3 multipart upload
	_, _ = rand.Read(content)
	var form bytes.Buffer
	writer := multipart.NewWriter(&form)
	part, err := writer.CreateFormFile("files", "data.bin")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	admin.call(t, http.MethodPost, "/workspaces/"+workspace+"/chat/uploads", writer.FormDataContentType(), &form, http.StatusOK)
	admin.call(t, http.MethodPost, "/workspaces/"+workspace+"/a2a", "application/json",
		strings.NewReader(`{"method":"message/send","params":{"message":{"role":"user","parts":[{"kind":"text","text":"look"}]}}}`), http.StatusOK)

	var rows []struct {
		Method      string `json:"method"`
		RequestBody struct {
			FileID string `json:"file_id"`
		} `json:"request_body"`
	}
	decode(t, poller.call(t, http.MethodGet, "/workspaces/"+workspace+"/activity?type=a2a_receive&since_secs=600", "", nil, http.StatusOK), &rows)
	// Newest first without a cursor.
	if len(rows) != 2 || rows[0].Method != "message/send" || rows[1].Method != "chat_upload_receive" {
		t.Fatalf("got feed %+v, want the message after the upload", rows)
	}
	path := fmt.Sprintf("/workspaces/%s/pending-uploads/%s/", workspace, rows[1].RequestBody.FileID)
	if got := poller.call(t, http.MethodGet, path+"content", "", nil, http.StatusOK); !bytes.Equal(got, content) {
		t.Errorf("fetched %d bytes that differ from the %d that were uploaded", len(got), len(content))
	}
	poller.call(t, http.MethodPost, path+"ack", "", nil, http.StatusOK)
	poller.call(t, http.MethodGet, path+"content", "", nil, http.StatusNotFound)
}

func decode(t *testing.T, reply []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(reply, into); err != nil {
		t.Fatalf("decode %.300s: %v", reply, err)
	}
}
