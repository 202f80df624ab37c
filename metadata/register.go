package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/storage"
)

// Registration is what a workspace says of itself.
type Registration struct {
	ID            storage.WorkspaceID
	AgentCard     json.RawMessage
	DeliveryMode  string // the effective mode: push or poll
	URL           string // may be empty in poll mode
	Authenticated bool   // whether the caller showed a token of this workspace, or the admin token
}

// Registered is the outcome of a registration.
type Registered struct {
	Workspace     Workspace
	Token         string // empty unless this registration bootstrapped the workspace
	InboundSecret string // empty when the workspace is removed
	Changed       bool   // false for a removed, paused or hibernated workspace, which stays as it is
}

const registerSQL = `
INSERT INTO workspaces AS w
    (id, name, status, agent_card, delivery_mode, url, platform_inbound_secret, last_heartbeat_at)
VALUES (@id::uuid, @id::uuid::text, 'online', @card::text::jsonb, @mode, @url, @secret, statement_timestamp())
ON CONFLICT (id) DO UPDATE
SET status = 'online',
    agent_card = excluded.agent_card,
    delivery_mode = excluded.delivery_mode,
    url = excluded.url,
    platform_inbound_secret = coalesce(w.platform_inbound_secret, excluded.platform_inbound_secret),
    last_heartbeat_at = excluded.last_heartbeat_at,
    updated_at = statement_timestamp()
WHERE w.status NOT IN ('removed', 'paused', 'hibernated')
RETURNING ` + workspaceColumns

const inboundSecretSQL = `
SELECT coalesce(platform_inbound_secret, '')
FROM workspaces
WHERE id = @id AND status <> 'removed'`

// Register creates the workspace or updates it and sets it online. Where it
// holds no live instance token and is not removed, it is given one, which is
// returned this once; of registrations that race, one gets it. A token whose commit
// went unanswered is looked for, because its workspace could never register again
// without it. ErrTokenRequired: a live instance
// token exists and the caller showed none; nothing was changed. ErrInvalidJSON
// and ErrNameTaken as for Create.
func (s *Workspaces) Register(ctx context.Context, r Registration) (Registered, error) {
	reg, err := s.register(ctx, r)
	if errors.Is(err, ErrNameTaken) {
		// Of two first registrations of one id, PostgreSQL may notice that they have
		// the same name before it notices that they have the same id. By now the
		// other is committed, and this one becomes an update.
		reg, err = s.register(ctx, r)
	}
	if errors.Is(err, ErrCommitUnknown) && reg.Token != "" {
		committed, lookErr := s.tokenCommitted(ctx, r.ID, reg.Token)
		if committed {
			err = nil
		}
		err = errors.Join(err, lookErr)
	}
	if err != nil {
		return Registered{}, fmt.Errorf("register workspace %s: %w", r.ID, err)
	}
	return reg, nil
}

func (s *Workspaces) register(ctx context.Context, r Registration) (Registered, error) {
	secret, err := newSecret()
	if err != nil {
		return Registered{}, err
	}
	agentCard, err := card(r.AgentCard)
	if err != nil {
		return Registered{}, err
	}
	var reg Registered
	err = inTx(ctx, s.db, func(tx pgx.Tx) error {
		// The upsert locks the row, even where it leaves it alone; whoever registers
		// or mints at the same time waits here.
		var err error
		reg.Workspace, err = s.one(ctx, tx, registerSQL, pgx.NamedArgs{
			"id": wsArg(r.ID), "card": agentCard, "mode": r.DeliveryMode, "url": r.URL, "secret": secret,
		})
		reg.Changed = err == nil
		if errors.Is(err, storage.ErrWorkspaceNotFound) {
			reg.Workspace, err = s.get(ctx, tx, r.ID)
		}
		if err != nil {
			return err
		}
		live, err := hasLiveInstance(ctx, tx, r.ID)
		if err != nil {
			return err
		}
		if live && !r.Authenticated {
			return ErrTokenRequired
		}
		if reg.Changed {
			if err := createFeed(ctx, tx, r.ID); err != nil {
				return err
			}
		}
		// Tokens of a paused workspace work; those of a removed one would not.
		if !live && !reg.Workspace.Removed() {
			if reg.Token, _, err = mint(ctx, tx, r.ID, TokenInstance); err != nil {
				return err
			}
		}
		err = tx.QueryRow(ctx, inboundSecretSQL, pgx.NamedArgs{"id": wsArg(r.ID)}).Scan(&reg.InboundSecret)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	return reg, err
}

// confirmTime bounds the question what became of a registration's commit. It has
// its own time, because the caller's may be what cut the answer off.
const confirmTime = 5 * time.Second

// probeTokenSQL inserts nothing exactly when the token is there. It waits for a
// transaction that may still commit it, which a select would not see.
const probeTokenSQL = `
INSERT INTO workspace_auth_tokens (workspace_id, token_hash, prefix, kind)
VALUES (@workspace, @hash, '', @kind)
ON CONFLICT (token_hash) DO NOTHING`

// tokenCommitted reports whether the token was stored. It leaves nothing behind.
func (s *Workspaces) tokenCommitted(ctx context.Context, ws storage.WorkspaceID, secret string) (bool, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), confirmTime)
	defer cancel()
	found := false
	err := inTx(ctx, s.db, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, probeTokenSQL, pgx.NamedArgs{"workspace": wsArg(ws), "hash": hashToken(secret), "kind": TokenInstance})
		if err != nil {
			return translate(err)
		}
		found = tag.RowsAffected() == 0
		return errProbed
	})
	switch {
	case errors.Is(err, errProbed), errors.Is(err, storage.ErrWorkspaceNotFound):
		return found, nil // without the workspace, which it would have made, there is no token either
	default:
		return false, fmt.Errorf("look for token: %w", err)
	}
}

// errProbed rolls a probe back.
var errProbed = errors.New("probed")
