package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
)

// Registration is what a workspace says of itself.
type Registration struct {
	// Card describes the agent: a JSON object. Default one with Name alone.
	Card json.RawMessage
	// Name goes into the default card. Default the workspace's id.
	Name string
}

// Register announces the workspace in poll mode. Where the workspace held no
// token, the reply has one, shown this once: keep it, and give it to SetToken.
// ErrUnauthorized: the token is not the workspace's, or the service's
// registration is closed and wants its administrator's or join token.
func (c *Client) Register(ctx context.Context, r Registration) (wire.RegisterReply, error) {
	if r.Name == "" {
		r.Name = c.cfg.Workspace.String()
	}
	if r.Card == nil {
		card, err := json.Marshal(map[string]string{"name": r.Name})
		if err != nil {
			return wire.RegisterReply{}, fmt.Errorf("encode the agent card: %w", err)
		}
		r.Card = card
	}
	body := wire.Register{ID: c.cfg.Workspace.String(), AgentCard: r.Card, DeliveryMode: "poll"}
	var reply wire.RegisterReply
	err := c.retry(ctx, "register", Temporary, func() error {
		reply = wire.RegisterReply{}
		return c.call(ctx, answerTime, http.MethodPost, "/registry/register", nil, body, &reply)
	})
	if err != nil {
		return wire.RegisterReply{}, fmt.Errorf("register workspace %v: %w", c.cfg.Workspace, err)
	}
	return reply, nil
}

// Heartbeat says that the workspace is there. One attempt: the next heartbeat is
// the repetition. The service shows a workspace as offline after 180 s without
// one (contract 2.3); clients send one every 20 to 30 s.
func (c *Client) Heartbeat(ctx context.Context, h wire.Heartbeat) (wire.HeartbeatReply, error) {
	h.WorkspaceID = c.cfg.Workspace.String()
	var reply wire.HeartbeatReply
	if err := c.call(ctx, answerTime, http.MethodPost, "/registry/heartbeat", nil, h, &reply); err != nil {
		return wire.HeartbeatReply{}, fmt.Errorf("heartbeat: %w", err)
	}
	return reply, nil
}

// Limits are the caps that the service enforces.
func (c *Client) Limits(ctx context.Context) (wire.Limits, error) {
	var limits wire.Limits
	err := c.retry(ctx, "limits", Temporary, func() error {
		limits = wire.Limits{}
		return c.call(ctx, answerTime, http.MethodGet, "/uploads/limits", nil, nil, &limits)
	})
	if err != nil {
		return wire.Limits{}, fmt.Errorf("read limits: %w", err)
	}
	return limits, nil
}
