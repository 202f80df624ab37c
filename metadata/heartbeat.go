package metadata

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/storage"
)

// Heartbeat is a sign of life. Fields that are nil leave the row's value as it
// is.
type Heartbeat struct {
	ID            storage.WorkspaceID
	ErrorRate     *float64 // errors per task, as the workspace counts them
	SampleError   *string
	ActiveTasks   *int
	UptimeSeconds *int64
	CurrentTask   *string
}

// HeartbeatReply is what the workspace is told in return.
type HeartbeatReply struct {
	Generation    int64
	InboundSecret string // empty for an unknown or removed workspace
}

const heartbeatSQL = `
UPDATE workspaces
SET last_heartbeat_at = statement_timestamp(),
    status = CASE WHEN status IN ('offline', 'awaiting_agent') THEN 'online' ELSE status END,
    error_rate = coalesce(@error_rate, error_rate),
    last_error = coalesce(@sample_error, last_error),
    active_tasks = coalesce(@active_tasks, active_tasks),
    uptime_seconds = coalesce(@uptime, uptime_seconds),
    current_task = coalesce(@current_task, current_task),
    platform_inbound_secret = coalesce(platform_inbound_secret, @secret)
WHERE id = @id AND status <> 'removed'
RETURNING generation, platform_inbound_secret`

// Heartbeat records a sign of life and returns the inbound secret, minted where
// the workspace has none. An unknown or removed workspace is no error and
// changes nothing. It never waits for writers of the workspace's feed.
func (s *Workspaces) Heartbeat(ctx context.Context, h Heartbeat) (HeartbeatReply, error) {
	secret, err := newSecret()
	if err != nil {
		return HeartbeatReply{}, fmt.Errorf("heartbeat of workspace %s: %w", h.ID, err)
	}
	var reply HeartbeatReply
	err = s.db.QueryRow(ctx, heartbeatSQL, pgx.NamedArgs{
		"id": wsArg(h.ID), "error_rate": h.ErrorRate, "sample_error": h.SampleError, "active_tasks": h.ActiveTasks,
		"uptime": h.UptimeSeconds, "current_task": h.CurrentTask, "secret": secret,
	}).Scan(&reply.Generation, &reply.InboundSecret)
	if errors.Is(err, pgx.ErrNoRows) {
		return HeartbeatReply{}, nil
	}
	if err != nil {
		return HeartbeatReply{}, fmt.Errorf("heartbeat of workspace %s: %w", h.ID, translate(err))
	}
	return reply, nil
}

const mintInboundSecretSQL = `
UPDATE workspaces
SET platform_inbound_secret = @secret
WHERE id = @id AND status <> 'removed' AND platform_inbound_secret IS NULL
RETURNING platform_inbound_secret`

// InboundSecret returns the secret that the platform shows to the workspace, and
// whether it had to be minted just now, in which case the workspace does not
// know it before its next heartbeat. storage.ErrWorkspaceNotFound, also for a
// removed workspace.
func (s *Workspaces) InboundSecret(ctx context.Context, id storage.WorkspaceID) (secret string, minted bool, err error) {
	secret, err = s.inboundSecret(ctx, id)
	if err != nil || secret != "" {
		return secret, false, err
	}
	fresh, err := newSecret()
	if err != nil {
		return "", false, fmt.Errorf("mint inbound secret of workspace %s: %w", id, err)
	}
	err = s.db.QueryRow(ctx, mintInboundSecretSQL, pgx.NamedArgs{"id": wsArg(id), "secret": fresh}).Scan(&secret)
	if errors.Is(err, pgx.ErrNoRows) {
		// Somebody else minted it in between.
		secret, err = s.inboundSecret(ctx, id)
		return secret, false, err
	}
	if err != nil {
		return "", false, fmt.Errorf("mint inbound secret of workspace %s: %w", id, err)
	}
	return secret, true, nil
}

func (s *Workspaces) inboundSecret(ctx context.Context, id storage.WorkspaceID) (string, error) {
	var secret string
	err := s.db.QueryRow(ctx, inboundSecretSQL, pgx.NamedArgs{"id": wsArg(id)}).Scan(&secret)
	if errors.Is(err, pgx.ErrNoRows) {
		err = storage.ErrWorkspaceNotFound
	}
	if err != nil {
		return "", fmt.Errorf("read inbound secret of workspace %s: %w", id, err)
	}
	return secret, nil
}
