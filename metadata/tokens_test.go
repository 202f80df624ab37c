package metadata_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

func TestTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	secret, tok, err := w.tokens.Mint(t.Context(), w.ws, metadata.TokenAPI)
	if err != nil {
		t.Fatal(err)
	}
	if len(secret) != 43 || tok.Prefix != secret[:8] || tok.Kind != metadata.TokenAPI || tok.WorkspaceID != w.ws || tok.LastUsedAt != nil {
		t.Errorf("minted %+v with %d characters", tok, len(secret))
	}
	if n := query[int](t, w.pool, `SELECT count(*) FROM workspace_auth_tokens WHERE token_hash = sha256($1::bytea)`, []byte(secret)); n != 1 {
		t.Error("the SHA-256 of the secret is not what is stored")
	}
	if live, err := w.tokens.HasLiveInstance(t.Context(), w.ws); err != nil || live {
		t.Errorf("an api token counts as an instance token: %v, %v", live, err)
	}
	instance, instanceTok, err := w.tokens.Mint(t.Context(), w.ws, metadata.TokenInstance)
	if err != nil {
		t.Fatal(err)
	}
	if live, err := w.tokens.HasLiveInstance(t.Context(), w.ws); err != nil || !live {
		t.Errorf("instance token is not seen: %v, %v", live, err)
	}
	if got, err := w.tokens.Resolve(t.Context(), instance); err != nil || got != instanceTok {
		t.Errorf("resolved %+v, %v; want %+v", got, err, instanceTok)
	}
	if _, err := w.tokens.Resolve(t.Context(), "garbage"); !errors.Is(err, metadata.ErrTokenNotFound) {
		t.Errorf("garbage: %v", err)
	}

	for range 2 {
		if err := w.tokens.Touch(t.Context(), tok.ID); err != nil {
			t.Fatal(err)
		}
	}
	used, err := w.tokens.Resolve(t.Context(), secret)
	if err != nil || used.LastUsedAt == nil {
		t.Fatalf("touched %+v, %v", used, err)
	}
	w.exec(t, `UPDATE workspace_auth_tokens SET last_used_at = last_used_at - interval '61 s' WHERE id = $1`, tok.ID)
	if err := w.tokens.Touch(t.Context(), tok.ID); err != nil {
		t.Fatal(err)
	}
	if again, err := w.tokens.Resolve(t.Context(), secret); err != nil || !again.LastUsedAt.After(*used.LastUsedAt) {
		t.Errorf("touched after a minute: %v, %v; was %v", again.LastUsedAt, err, used.LastUsedAt)
	}

	other := w.workspace(t, "other", nil)
	if err := w.tokens.Revoke(t.Context(), other, tok.ID); !errors.Is(err, metadata.ErrTokenNotFound) {
		t.Errorf("revoke of another workspace's token: %v", err)
	}
	for range 2 {
		if err := w.tokens.Revoke(t.Context(), w.ws, tok.ID); err != nil {
			t.Errorf("revoke: %v", err)
		}
	}
	if _, err := w.tokens.Resolve(t.Context(), secret); !errors.Is(err, metadata.ErrTokenNotFound) {
		t.Errorf("revoked token: %v", err)
	}
	list, err := w.tokens.List(t.Context(), w.ws)
	if err != nil || len(list) != 2 || !slices.ContainsFunc(list, func(tok metadata.Token) bool { return tok.RevokedAt != nil }) {
		t.Errorf("list = %+v, %v", list, err)
	}
}

func TestMintRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range metadata.MaxLiveTokens {
		kind := []string{metadata.TokenAPI, metadata.TokenInstance}[i%2]
		if _, _, err := w.tokens.Mint(t.Context(), w.ws, kind); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := w.tokens.Mint(t.Context(), w.ws, metadata.TokenAPI); !errors.Is(err, metadata.ErrTokenLimit) {
		t.Errorf("token 51: %v", err)
	}
	list, err := w.tokens.List(t.Context(), w.ws)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.tokens.Revoke(t.Context(), w.ws, list[0].ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.tokens.Mint(t.Context(), w.ws, metadata.TokenAPI); err != nil {
		t.Errorf("after revoking one: %v", err)
	}
	if _, err := w.workspaces.Remove(t.Context(), w.ws, metadata.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, id := range map[string]storage.WorkspaceID{"removed": w.ws, "unknown": storage.WorkspaceID(uuid.New())} {
		if _, _, err := w.tokens.Mint(t.Context(), id, metadata.TokenAPI); !errors.Is(err, storage.ErrWorkspaceNotFound) {
			t.Errorf("%s workspace: %v", name, err)
		}
	}
}
