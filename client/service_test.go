package client_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/internal/servertest"
	"github.com/molecule-ai/pendinguploads/storage"
)

func file(name, mimeType string, content []byte) client.File {
	return client.File{Name: name, MIMEType: mimeType, Size: int64(len(content)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}}
}

// The whole job against the real service: upload, message, feed, fetch, ack.
func TestTheWholeJob(t *testing.T) {
	t.Parallel()
	stack := servertest.NewStack(t)
	server := stack.Serve(t)
	id, token := stack.Workspace(t, "laptop")
	c := server.Client(t, id, token)
	if reply, err := c.Register(t.Context(), client.Registration{Name: "laptop"}); err != nil || reply.Status != "registered" || reply.AuthToken != "" {
		t.Fatal(reply, err)
	}
	if _, err := c.Heartbeat(t.Context(), wire.Heartbeat{}); err != nil {
		t.Error(err)
	}

	contents := [][]byte{content(1), content(4 << 10), content(7 << 20)}
	unknown := file("from a pipe.txt", "text/plain", contents[1])
	unknown.Size = -1
	var sent int64
	staged, err := c.Upload(t.Context(), []client.File{
		file(`quote " and \ and ü and 中文.txt`, "text/plain; charset=utf-8", contents[0]), unknown, file("large.bin", "", contents[2]),
	}, client.UploadOptions{IdempotencyKey: "k", Progress: func(n int64) { sent = n }})
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(1 + 4<<10 + 7<<20); sent != want {
		t.Errorf("progress ended at %d, want %d", sent, want)
	}
	if err := c.Send(t.Context(), client.Message{ID: "m1", Text: "look", Files: staged}); err != nil {
		t.Fatal(err)
	}
	if err := c.Send(t.Context(), client.Message{ID: "m1", Text: "look", Files: staged}); err != nil {
		t.Fatal(err)
	}

	var methods []string
	var got [][]byte
	for a, err := range c.Follow(t.Context(), client.FollowConfig{Once: true}) {
		if err != nil {
			t.Fatal(err)
		}
		methods = append(methods, *a.Method)
		if *a.Method != wire.MethodChatUpload {
			continue
		}
		got = append(got, fetchAndAck(t, c, a))
	}
	if diff := cmp.Diff([]string{"chat_upload_receive", "chat_upload_receive", "chat_upload_receive", "message/send"}, methods); diff != "" {
		t.Error(diff)
	}
	if !slices.EqualFunc(contents, got, bytes.Equal) {
		t.Error("contents differ")
	}
	if n, err := c.AckActivity(t.Context(), 4); err != nil || n != 4 {
		t.Error(n, err)
	}
	if err := c.Notify(t.Context(), wire.Notify{Message: "done"}); err != nil {
		t.Error(err)
	}
	if limits, err := c.Limits(t.Context()); err != nil || limits.PerFileBytes != storage.DefaultMaxFileBytes {
		t.Error(limits, err)
	}
}

func fetchAndAck(t *testing.T, c *client.Client, a wire.Activity) []byte {
	t.Helper()
	f := manifestFile(t, a)
	var sink buffer
	got, err := c.Fetch(t.Context(), f, &sink, client.FetchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got.SHA256 != sha256.Sum256(sink.Bytes()) {
		t.Error("the digest is not that of the bytes")
	}
	wrong := client.Received{Size: got.Size, SHA256: sha256.Sum256([]byte("another"))}
	if _, err := c.Ack(t.Context(), f, &wrong); !errors.Is(err, client.ErrContentMismatch) {
		t.Errorf("ack of other content: got %v, want ErrContentMismatch", err)
	}
	for range 2 {
		if reply, err := c.Ack(t.Context(), f, &got.Received); err != nil || !reply.Acked {
			t.Error(reply, err)
		}
	}
	if _, err := c.Fetch(t.Context(), f, &sink, client.FetchOptions{}); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("fetch after ack: got %v, want ErrNotFound", err)
	}
	return sink.Bytes()
}

func TestRefusalsOfTheRealService(t *testing.T) {
	t.Parallel()
	stack := servertest.NewStack(t)
	server := stack.Serve(t)
	id, token := stack.Workspace(t, "laptop")
	good, stranger := server.Client(t, id, token), server.Client(t, id, "wrong")

	if _, err := stranger.Register(t.Context(), client.Registration{}); !errors.Is(err, client.ErrUnauthorized) {
		t.Errorf("register with a wrong token: %v", err)
	}
	if _, err := stranger.Upload(t.Context(), []client.File{file("a", "", content(10<<20))}, client.UploadOptions{}); !errors.Is(err, client.ErrUnauthorized) {
		t.Errorf("upload with a wrong token: %v", err)
	}
	if _, err := good.Upload(t.Context(), []client.File{file("a", "", content(storage.DefaultMaxFileBytes+1))}, client.UploadOptions{}); !errors.Is(err, client.ErrTooLarge) {
		t.Errorf("upload of a too large file: %v", err)
	}
	if _, err := good.Upload(t.Context(), []client.File{file("a", "", nil)}, client.UploadOptions{}); err == nil {
		t.Error("an empty file was taken")
	}
	shrunk := file("a", "", content(10))
	shrunk.Size = 11
	if _, err := good.Upload(t.Context(), []client.File{shrunk}, client.UploadOptions{}); !errors.Is(err, client.ErrFileChanged) {
		t.Errorf("upload of a file that shrank: %v", err)
	}
	if rows, err := good.Activity(t.Context(), client.Query{}); err != nil || len(rows) != 0 {
		t.Errorf("%d rows after refusals, error %v", len(rows), err)
	}
	if _, err := good.Activity(t.Context(), client.Query{After: "00000000-0000-0000-0000-000000000000"}); !errors.Is(err, client.ErrCursorGone) {
		t.Errorf("an unknown cursor: %v", err)
	}
	if _, err := good.Ack(t.Context(), newFileID(t), nil); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("ack of an unknown file: %v", err)
	}
}
