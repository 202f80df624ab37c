package handlers_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/client/inbox"
	"github.com/molecule-ai/pendinguploads/metadata"
)

// The inbox streams while both released pollers poll the same feed. None of them
// takes anything away from another.
func TestInboxBesideBothPollers(t *testing.T) {
	t.Parallel()
	w := newServerWith(t, setup{rows: metadata.UploadsConfig{ReadAfterAck: true}}, openRegistration)
	ws, token := w.workspace("poll")
	python, channel := w.pythonPoller(ws, token), w.channelClient(ws, token)
	channel.start()

	c, err := client.New(client.Config{BaseURL: w.url, Workspace: ws, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	handled := make(chan inbox.Message, 10)
	box, err := inbox.New(inbox.Config{
		Client: c, Dir: filepath.Join(t.TempDir(), "inbox"), MinFree: -1,
		OnFile: func(f inbox.File) {
			if f.Err != nil {
				t.Errorf("%s was given up: %v", f.Name, f.Err)
			}
		},
		OnTrouble: func(err error) {
			if err != nil {
				t.Errorf("trouble: %v", err)
			}
		},
		Handler: func(_ context.Context, m inbox.Message) error { handled <- m; return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var ran error
	running.Go(func() { ran = box.Run(ctx) })

	messages := []string{"first", "second", "third"}
	for _, m := range messages {
		w.chat(ws, token, m, files(m)...)
		w.together(python.poll, channel.poll)
	}
	w.together(python.poll, channel.poll)
	for _, m := range messages {
		got := <-handled
		if len(got.Files) != len(files(m)) {
			t.Errorf("message %s cites %d files, want %d", m, len(got.Files), len(files(m)))
		}
		for _, f := range got.Files {
			if f.Path == "" {
				t.Errorf("message %s came without its file %s", m, f.Name)
			}
		}
	}
	stop()
	running.Wait()
	c.Close()
	if ran != nil && !errors.Is(ran, context.Canceled) {
		t.Errorf("the inbox ended with %v", ran)
	}

	for _, m := range messages {
		copies := python.agent.copies(t, m)
		if len(copies) != 1 {
			t.Errorf("the Python poller handed on %d copies of message %s, want 1", len(copies), m)
			continue
		}
		wantLocal(t, m, copies[0], files(m))
		if len(channel.agent.copies(t, m)) == 0 {
			t.Errorf("the channel client did not hand on message %s", m)
		}
	}
	if python.failed != 0 || channel.failed != 0 {
		t.Errorf("fetches failed: %d of the Python poller's, %d of the channel client's", python.failed, channel.failed)
	}
	w.wantAllAcked()
}
