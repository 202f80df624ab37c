package client

import (
	"context"
	"fmt"
	"net/http"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/storage"
)

// Received is what a receiver holds of a file.
type Received struct {
	Size   int64 // bytes
	SHA256 storage.Digest
}

// Ack acknowledges a file: the workspace has it for good, the service may remove
// it. With got, the service compares it with what was staged: ErrContentMismatch
// when they differ, and the file stays. nil acknowledges without a comparison.
// ErrNotFound: the file is gone, or never was the workspace's. Acknowledging
// twice is fine.
func (c *Client) Ack(ctx context.Context, f storage.FileID, got *Received) (wire.AckReply, error) {
	var body any
	if got != nil {
		body = wire.AckRequest{SHA256: got.SHA256.String(), Size: got.Size}
	}
	var reply wire.AckReply
	err := c.retry(ctx, "ack", Temporary, func() error {
		reply = wire.AckReply{}
		return c.call(ctx, answerTime, http.MethodPost, c.filePath(f, "ack"), nil, body, &reply)
	})
	if err != nil {
		return wire.AckReply{}, fmt.Errorf("ack file %v: %w", f, err)
	}
	return reply, nil
}

func (c *Client) filePath(f storage.FileID, what string) string {
	return c.workspacePath("/pending-uploads/" + f.String() + "/" + what)
}
