package handlers_test

import (
	"testing"

	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// The all-zero UUID names nothing: it must never stand for everybody.

func TestTheZeroWorkspaceCannotBeRegistered(t *testing.T) {
	t.Parallel()
	w := newServer(t, func(cfg *handlers.Config) { cfg.Registration = handlers.RegistrationOpen })
	body := map[string]any{"id": storage.WorkspaceID{}.String(), "agent_card": map[string]any{"name": "x"}, "delivery_mode": "poll"}
	w.postJSON("/registry/register", "", body).want(t, 500, "registration failed")
	w.postJSON("/registry/register", adminToken, body).want(t, 500, "registration failed")
	if n := w.count("SELECT count(*) FROM workspaces"); n != 0 {
		t.Errorf("%d workspaces", n)
	}
}

func TestTheZeroWorkspaceHearsOnlyItself(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	var zero storage.WorkspaceID
	w.exec("INSERT INTO workspaces (id, name, delivery_mode) VALUES ($1, 'zero', 'poll')", zero.String())
	token, _, err := w.tokens.Mint(t.Context(), zero, metadata.TokenInstance)
	if err != nil {
		t.Fatal(err)
	}
	other, otherToken := w.workspace("poll")
	for name, l := range map[string]*listener{"stream": w.listenStream(zero, token), "socket": w.listenSocket(token)} {
		for _, from := range []struct {
			ws    storage.WorkspaceID
			token string
		}{{other, otherToken}, {zero, token}} {
			if got := w.postJSON("/workspaces/"+from.ws.String()+"/notify", from.token, map[string]any{"message": "hello"}); got.status != 200 {
				t.Fatalf("notify: %d %s", got.status, got.body)
			}
		}
		if e, text := l.next(); e.WorkspaceID != zero.String() {
			t.Errorf("%s: an event of workspace %s: %s", name, e.WorkspaceID, text)
		}
	}
}
