package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/client/inbox"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/storage"
)

// file is a file that the canvas sends.
type file struct {
	name     string
	mimeType string
	content  []byte
	sum      storage.Digest
}

// newFile is a file of random content; size is in bytes.
func newFile(name, mimeType string, size int) file {
	content := make([]byte, size)
	_, _ = rand.Read(content) // never fails
	return file{name: name, mimeType: mimeType, content: content, sum: sha256.Sum256(content)}
}

// upload sends all files in one request and compares the answer.
func upload(ctx context.Context, canvas *client.Client, files []file) ([]wire.UploadedFile, error) {
	list := make([]client.File, len(files))
	for i, f := range files {
		list[i] = client.File{Name: f.name, MIMEType: f.mimeType, Size: int64(len(f.content)), Open: func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(f.content)), nil
		}}
	}
	staged, err := canvas.Upload(ctx, list, client.UploadOptions{})
	if err != nil {
		return nil, err
	}
	for i, got := range staged {
		if f := files[i]; got.Name != f.name || got.MIMEType != f.mimeType || got.Size != int64(len(f.content)) {
			return nil, fmt.Errorf("upload: got %+v, want %s, %s, %d bytes", got, f.name, f.mimeType, len(f.content))
		}
	}
	return staged, nil
}

// register registers a new workspace as the administrator, who may where
// registration is closed, and returns the administrator's client of it and its
// own token.
func register(ctx context.Context, base, adminToken, name string) (canvas *client.Client, token string, err error) {
	canvas, err = client.New(client.Config{BaseURL: base, Workspace: storage.WorkspaceID(uuid.New()), Token: adminToken})
	if err != nil {
		return nil, "", err
	}
	reply, err := canvas.Register(ctx, client.Registration{Name: name})
	if err != nil {
		return nil, "", err
	}
	if reply.Status != "registered" || reply.DeliveryMode != "poll" || reply.AuthToken == "" {
		return nil, "", fmt.Errorf("register %v: got status %q, mode %q and a token of %d characters", canvas.Workspace(), reply.Status, reply.DeliveryMode, len(reply.AuthToken))
	}
	return canvas, reply.AuthToken, nil
}

// laptop is the workspace's side: an inbox in a folder of its own.
type laptop struct {
	client   *client.Client
	folder   string
	files    chan inbox.File
	messages chan inbox.Message
	stop     func() error
}

// patience bounds the wait for anything that is there already.
const patience = time.Minute

// openLaptop starts an inbox as the workspace.
func openLaptop(ctx context.Context, base string, id storage.WorkspaceID, token string) (*laptop, error) {
	c, err := client.New(client.Config{BaseURL: base, Workspace: id, Token: token})
	if err != nil {
		return nil, err
	}
	parent, err := os.MkdirTemp("", "pendinguploads-demo-")
	if err != nil {
		return nil, fmt.Errorf("make the workspace's folder: %w", err)
	}
	l := &laptop{client: c, folder: filepath.Join(parent, "inbox"), files: make(chan inbox.File, 16), messages: make(chan inbox.Message, 16)}
	box, err := inbox.New(inbox.Config{
		Client: c, Dir: l.folder,
		OnFile:  func(f inbox.File) { l.files <- f },
		Handler: func(_ context.Context, m inbox.Message) error { l.messages <- m; return nil },
	})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(parent))
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- box.Run(ctx) }()
	l.stop = func() error {
		cancel()
		err := <-ended
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		c.Close()
		return errors.Join(err, os.RemoveAll(parent))
	}
	return l, nil
}

// file waits for the next file and compares what lies in the folder with one of
// those that were sent.
func (l *laptop) file(ctx context.Context, sent []file) (inbox.File, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var got inbox.File
	select {
	case <-ctx.Done():
		return got, fmt.Errorf("receive: no file arrives: %w", ctx.Err())
	case got = <-l.files:
	}
	if got.Err != nil {
		return got, fmt.Errorf("receive %s: %w", got.Name, got.Err)
	}
	content, err := os.ReadFile(got.Path)
	if err != nil {
		return got, fmt.Errorf("receive %s: %w", got.Name, err)
	}
	for _, f := range sent {
		if f.name == got.Name && f.sum == sha256.Sum256(content) && f.sum == got.SHA256 {
			return got, nil
		}
	}
	return got, fmt.Errorf("receive: nobody sent %s with SHA-256 %v", got.Name, got.SHA256)
}

// message waits for the next message and checks that it names n files of the
// folder and no staged one.
func (l *laptop) message(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var m inbox.Message
	select {
	case <-ctx.Done():
		return fmt.Errorf("receive: the message does not arrive: %w", ctx.Err())
	case m = <-l.messages:
	}
	body := string(m.Activity.RequestBody)
	if strings.Contains(body, "platform-pending:") {
		return errors.New("message: a file's URI was not rewritten")
	}
	if len(m.Files) != n {
		return fmt.Errorf("message: it cites %d files, want %d", len(m.Files), n)
	}
	for _, f := range m.Files {
		if f.Path == "" || !strings.Contains(body, f.LocalURI) {
			return fmt.Errorf("message: it does not name the local %s", f.Name)
		}
	}
	return nil
}
