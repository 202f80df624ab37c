package client

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
)

// Message is what a user says to the workspace's agent.
type Message struct {
	ID    string              // what makes a repetition the same message; default a fresh UUID
	Text  string              // may be empty where there are files
	Files []wire.UploadedFile // what Upload returned
}

type messagePart struct {
	Kind string         `json:"kind"`
	Text string         `json:"text,omitempty"`
	File *wire.ChatFile `json:"file,omitempty"`
}

// Send posts a chat message that cites files to the workspace. The service
// stores a message with the same ID once, so it is safe to repeat.
func (c *Client) Send(ctx context.Context, m Message) error {
	if m.ID == "" {
		m.ID = uuid.NewString()
	}
	var parts []messagePart
	if m.Text != "" {
		parts = append(parts, messagePart{Kind: "text", Text: m.Text})
	}
	for _, f := range m.Files {
		parts = append(parts, messagePart{Kind: "file", File: &wire.ChatFile{URI: f.URI, Name: f.Name, MIMEType: f.MIMEType, Size: &f.Size}})
	}
	body := map[string]any{
		"method": wire.MethodMessageSend,
		"params": map[string]any{"message": map[string]any{"role": "user", "messageId": m.ID, "parts": parts}},
	}
	err := c.retry(ctx, "send message", Temporary, func() error {
		return c.call(ctx, answerTime, http.MethodPost, c.workspacePath("/a2a"), nil, body, nil)
	})
	if err != nil {
		return fmt.Errorf("send message %s: %w", m.ID, err)
	}
	return nil
}

// Notify says something to the workspace's user. It is repeated only where the
// service surely did not take it: each call is a message of its own.
func (c *Client) Notify(ctx context.Context, n wire.Notify) error {
	err := c.retry(ctx, "notify", Unprocessed, func() error {
		return c.call(ctx, answerTime, http.MethodPost, c.workspacePath("/notify"), nil, n, nil)
	})
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}
