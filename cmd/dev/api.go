package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// api calls the service as one holder of a token, on the wire contract alone.
type api struct {
	base  string
	token string
}

// replyLimit bounds what is read of a reply that should be small.
const replyLimit = 16 << 20

// call sends a request and decodes the JSON reply into reply, unless that is
// nil. Any status but 200 is an error that shows the reply's beginning.
func (a api) call(ctx context.Context, method, path, contentType string, body io.Reader, reply any) error {
	response, err := a.send(ctx, method, path, contentType, body)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, replyLimit))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %w", method, path, statusError{response.StatusCode, string(text)})
	}
	if reply == nil {
		return nil
	}
	if err := json.Unmarshal(text, reply); err != nil {
		return fmt.Errorf("%s %s: decode reply: %w", method, path, err)
	}
	return nil
}

// send sends a request the way the Python poller does: with a bearer, and with
// the platform's URL as origin.
func (a api) send(ctx context.Context, method, path, contentType string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, a.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	request.Header.Set("Authorization", "Bearer "+a.token)
	request.Header.Set("Origin", a.base)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return response, nil
}

func (a api) postJSON(ctx context.Context, path string, body, reply any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("POST %s: encode body: %w", path, err)
	}
	return a.call(ctx, http.MethodPost, path, "application/json", bytes.NewReader(text), reply)
}

// statusError is a reply that was not 200.
type statusError struct {
	code int
	body string
}

func (e statusError) Error() string {
	const show = 300
	return fmt.Sprintf("status %d: %.*s", e.code, show, e.body)
}

func isStatus(err error, code int) bool {
	var status statusError
	return errors.As(err, &status) && status.code == code
}

// registration is a workspace that was registered, with its token.
type registration struct {
	id    string
	token string
}

// register registers a new poll-mode workspace. The caller's token is the
// admin's, which may register where registration is closed.
func register(ctx context.Context, admin api, name string) (registration, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	id := uuid.NewString()
	var reply struct {
		Status       string `json:"status"`
		DeliveryMode string `json:"delivery_mode"`
		AuthToken    string `json:"auth_token"`
	}
	err := admin.postJSON(ctx, "/registry/register", map[string]any{
		"id": id, "agent_card": map[string]string{"name": name}, "delivery_mode": "poll", "url": "",
	}, &reply)
	if err != nil {
		return registration{}, err
	}
	if reply.Status != "registered" || reply.DeliveryMode != "poll" || reply.AuthToken == "" {
		return registration{}, fmt.Errorf("register %s: got status %q, mode %q and a token of %d characters", id, reply.Status, reply.DeliveryMode, len(reply.AuthToken))
	}
	return registration{id: id, token: reply.AuthToken}, nil
}
