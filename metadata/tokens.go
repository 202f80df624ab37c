package metadata

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/storage"
)

const (
	// TokenInstance is the kind of token that a workspace gets when it registers,
	// or when it is created for an agent elsewhere. While one is live, nobody
	// registers the workspace without a token.
	TokenInstance = "instance"

	// TokenAPI is the kind that an administrator mints.
	TokenAPI = "api"

	// MaxLiveTokens is the most unrevoked tokens of a workspace, of all kinds
	// (contract 2.17).
	MaxLiveTokens = 50

	// secretBytes is the entropy of tokens and inbound secrets; as text they
	// have 43 characters (contract 2.1).
	secretBytes = 32

	// prefixChars of a token are kept readable, to recognise it by.
	prefixChars = 8
)

// Token is what is kept of a workspace's token. The secret is not.
type Token struct {
	ID          uuid.UUID
	WorkspaceID storage.WorkspaceID
	Prefix      string // the secret's first 8 characters
	Kind        string // TokenInstance or TokenAPI
	CreatedAt   time.Time
	LastUsedAt  *time.Time // at most about a minute behind; nil before the first use
	RevokedAt   *time.Time // nil while live
}

// Tokens is the workspace_auth_tokens table.
type Tokens struct{ db DB }

// NewTokens does no I/O.
func NewTokens(db DB) *Tokens { return &Tokens{db: db} }

// newSecret returns 32 random bytes as base64url without padding.
func newSecret() (string, error) {
	b := make([]byte, secretBytes)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("make secret: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

const tokenColumns = `t.id, t.workspace_id, t.prefix, t.kind, t.created_at, t.last_used_at, t.revoked_at`

func scanToken(row pgx.CollectableRow) (Token, error) {
	var t Token
	err := row.Scan(&t.ID, &t.WorkspaceID, &t.Prefix, &t.Kind, &t.CreatedAt, &t.LastUsedAt, &t.RevokedAt)
	return t, err
}

const lockWorkspaceSQL = `
SELECT id
FROM workspaces
WHERE id = @workspace AND status <> 'removed'
FOR NO KEY UPDATE`

const countLiveTokensSQL = `
SELECT count(*)
FROM workspace_auth_tokens
WHERE workspace_id = @workspace AND revoked_at IS NULL`

// Mint makes a token and returns its secret, which cannot be had again.
// ErrTokenLimit, and storage.ErrWorkspaceNotFound, also for a removed workspace.
func (s *Tokens) Mint(ctx context.Context, ws storage.WorkspaceID, kind string) (secret string, tok Token, err error) {
	err = inTx(ctx, s.db, func(tx pgx.Tx) error {
		args := pgx.NamedArgs{"workspace": wsArg(ws)}
		var id uuid.UUID
		// The lock makes those who mint at the same time count one after the other.
		err := tx.QueryRow(ctx, lockWorkspaceSQL, args).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			return storage.ErrWorkspaceNotFound
		}
		if err != nil {
			return err
		}
		var live int
		if err := tx.QueryRow(ctx, countLiveTokensSQL, args).Scan(&live); err != nil {
			return err
		}
		if live >= MaxLiveTokens {
			return ErrTokenLimit
		}
		secret, tok, err = mint(ctx, tx, ws, kind)
		return err
	})
	if err != nil {
		return "", Token{}, fmt.Errorf("mint token of workspace %s: %w", ws, err)
	}
	return secret, tok, nil
}

const mintSQL = `
INSERT INTO workspace_auth_tokens AS t (workspace_id, token_hash, prefix, kind)
VALUES (@workspace, @hash, @prefix, @kind)
RETURNING ` + tokenColumns

// mint inserts a token in the caller's transaction, which holds the workspace's
// row.
func mint(ctx context.Context, tx pgx.Tx, ws storage.WorkspaceID, kind string) (string, Token, error) {
	secret, err := newSecret()
	if err != nil {
		return "", Token{}, err
	}
	rows, err := tx.Query(ctx, mintSQL, pgx.NamedArgs{
		"workspace": wsArg(ws), "hash": hashToken(secret), "prefix": secret[:prefixChars], "kind": kind,
	})
	if err != nil {
		return "", Token{}, fmt.Errorf("insert token: %w", translate(err))
	}
	tok, err := pgx.CollectExactlyOneRow(rows, scanToken)
	if err != nil {
		return "", Token{}, fmt.Errorf("insert token: %w", translate(err))
	}
	return secret, tok, nil
}

func hashToken(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

const resolveTokenSQL = `
SELECT ` + tokenColumns + `
FROM workspace_auth_tokens t
JOIN workspaces w ON w.id = t.workspace_id
WHERE t.token_hash = $1 AND t.revoked_at IS NULL AND w.status <> 'removed'`

// Resolve finds the live token with that secret. ErrTokenNotFound when there is
// none, it is revoked, or its workspace is removed.
func (s *Tokens) Resolve(ctx context.Context, secret string) (Token, error) {
	// Each request asks; a name would have pgx parse the statement each time.
	rows, err := s.db.Query(ctx, resolveTokenSQL, hashToken(secret))
	if err != nil {
		return Token{}, fmt.Errorf("resolve token: %w", err)
	}
	tok, err := pgx.CollectExactlyOneRow(rows, scanToken)
	if errors.Is(err, pgx.ErrNoRows) {
		return Token{}, ErrTokenNotFound
	}
	if err != nil {
		return Token{}, fmt.Errorf("resolve token: %w", err)
	}
	return tok, nil
}

const touchTokenSQL = `
UPDATE workspace_auth_tokens
SET last_used_at = statement_timestamp()
WHERE id = @id AND (last_used_at IS NULL OR last_used_at < statement_timestamp() - interval '1 minute')`

// Touch records that a token was used, at most about once a minute, so that a
// busy client does not rewrite the row with every request. A token that does
// not exist is no error.
func (s *Tokens) Touch(ctx context.Context, id uuid.UUID) error {
	if _, err := s.db.Exec(ctx, touchTokenSQL, pgx.NamedArgs{"id": id}); err != nil {
		return fmt.Errorf("touch token %s: %w", id, err)
	}
	return nil
}

const hasLiveInstanceSQL = `
SELECT EXISTS (
    SELECT FROM workspace_auth_tokens
    WHERE workspace_id = @workspace AND kind = 'instance' AND revoked_at IS NULL)`

// HasLiveInstance reports whether the workspace holds an unrevoked instance
// token; false for an unknown workspace.
func (s *Tokens) HasLiveInstance(ctx context.Context, ws storage.WorkspaceID) (bool, error) {
	live, err := hasLiveInstance(ctx, s.db, ws)
	if err != nil {
		return false, fmt.Errorf("look for tokens of workspace %s: %w", ws, err)
	}
	return live, nil
}

func hasLiveInstance(ctx context.Context, db DB, ws storage.WorkspaceID) (bool, error) {
	var live bool
	err := db.QueryRow(ctx, hasLiveInstanceSQL, pgx.NamedArgs{"workspace": wsArg(ws)}).Scan(&live)
	return live, err
}

const listTokensSQL = `
SELECT ` + tokenColumns + `
FROM workspace_auth_tokens t
WHERE t.workspace_id = @workspace
ORDER BY t.created_at, t.id`

// List returns the workspace's tokens, revoked ones too, oldest first.
func (s *Tokens) List(ctx context.Context, ws storage.WorkspaceID) ([]Token, error) {
	rows, err := s.db.Query(ctx, listTokensSQL, pgx.NamedArgs{"workspace": wsArg(ws)})
	if err != nil {
		return nil, fmt.Errorf("list tokens of workspace %s: %w", ws, err)
	}
	list, err := pgx.CollectRows(rows, scanToken)
	if err != nil {
		return nil, fmt.Errorf("list tokens of workspace %s: %w", ws, err)
	}
	return list, nil
}

const revokeTokenSQL = `
UPDATE workspace_auth_tokens
SET revoked_at = coalesce(revoked_at, statement_timestamp())
WHERE workspace_id = @workspace AND id = @id`

// Revoke stops a token of the workspace at once. Revoking again succeeds and
// keeps the first time. ErrTokenNotFound.
func (s *Tokens) Revoke(ctx context.Context, ws storage.WorkspaceID, id uuid.UUID) error {
	tag, err := s.db.Exec(ctx, revokeTokenSQL, pgx.NamedArgs{"workspace": wsArg(ws), "id": id})
	if err != nil {
		return fmt.Errorf("revoke token %s of workspace %s: %w", id, ws, err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("revoke token %s of workspace %s: %w", id, ws, ErrTokenNotFound)
	}
	return nil
}
