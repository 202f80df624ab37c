package client

import (
	"context"
	"fmt"
	"net/http"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
)

// Describe is what anybody may know of the workspace (contract 2.12). One attempt.
// ErrNotFound: there is no such workspace. Services may leave DeliveryMode out.
func (c *Client) Describe(ctx context.Context) (wire.Workspace, error) {
	var w wire.Workspace
	if err := c.call(ctx, answerTime, http.MethodGet, c.workspacePath(""), nil, nil, &w); err != nil {
		return wire.Workspace{}, fmt.Errorf("describe workspace %v: %w", c.cfg.Workspace, err)
	}
	return w, nil
}
