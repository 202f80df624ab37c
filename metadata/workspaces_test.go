package metadata_test

import (
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

func registration(id storage.WorkspaceID) metadata.Registration {
	return metadata.Registration{ID: id, AgentCard: json.RawMessage(`{"name": "x"}`), DeliveryMode: "poll"}
}

func TestCreateGetList(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made, token, err := w.workspaces.Create(t.Context(), metadata.NewWorkspace{
		Name: "n", Role: "r", Tier: 3, Runtime: "external", URL: "https://a.example", Status: "awaiting_agent",
		ParentID: &w.ws, AgentCard: json.RawMessage(`{"a": 1}`),
	}, metadata.TokenInstance)
	if err != nil {
		t.Fatal(err)
	}
	if made.DeliveryMode != "push" || made.Kind != "workspace" || !made.TalkToUser || string(made.AgentCard) != `{"a":1}` {
		t.Errorf("made %+v", made)
	}
	got, err := w.workspaces.Get(t.Context(), made.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(made, got); diff != "" {
		t.Errorf("created and read differ:\n%s", diff)
	}
	if tok, err := w.tokens.Resolve(t.Context(), token); err != nil || tok.WorkspaceID != made.ID || tok.Kind != metadata.TokenInstance {
		t.Errorf("token = %+v, %v", tok, err)
	}
	if _, err := w.workspaces.Get(t.Context(), storage.WorkspaceID(uuid.New())); !errors.Is(err, storage.ErrWorkspaceNotFound) {
		t.Errorf("unknown: %v", err)
	}
	for name, test := range map[string]struct {
		n    metadata.NewWorkspace
		want error
	}{
		"same name":      {metadata.NewWorkspace{Name: "n", ParentID: &w.ws}, metadata.ErrNameTaken},
		"same root name": {metadata.NewWorkspace{Name: "receiver"}, metadata.ErrNameTaken},
		"same id":        {metadata.NewWorkspace{ID: made.ID, Name: "m"}, metadata.ErrWorkspaceExists},
		"unknown parent": {metadata.NewWorkspace{ParentID: ptr(storage.WorkspaceID(uuid.New()))}, storage.ErrWorkspaceNotFound},
		"bad card":       {metadata.NewWorkspace{AgentCard: json.RawMessage(`{`)}, metadata.ErrInvalidJSON},
	} {
		if _, _, err := w.workspaces.Create(t.Context(), test.n, ""); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	if _, err := w.workspaces.Remove(t.Context(), made.ID, metadata.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	for all, want := range map[bool]int{false: 1, true: 2} {
		if list, err := w.workspaces.List(t.Context(), all); err != nil || len(list) != want {
			t.Errorf("List(%v) = %d, %v; want %d", all, len(list), err, want)
		}
	}
	// The name of a removed workspace is free again.
	if _, _, err := w.workspaces.Create(t.Context(), metadata.NewWorkspace{Name: "n", ParentID: &w.ws}, ""); err != nil {
		t.Error(err)
	}
	if _, _, err := w.workspaces.Create(t.Context(), metadata.NewWorkspace{ParentID: &made.ID}, ""); !errors.Is(err, storage.ErrWorkspaceNotFound) {
		t.Errorf("removed parent: %v", err)
	}
}

func TestStatusAsShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, test := range map[string]struct{ set, want string }{
		"fresh":            {`status = 'online', last_heartbeat_at = now() - interval '179 s'`, "online"},
		"silent":           {`status = 'online', last_heartbeat_at = now() - interval '181 s'`, "offline"},
		"silent, external": {`status = 'online', last_heartbeat_at = now() - interval '181 s', runtime = 'external'`, "awaiting_agent"},
		"never heard of":   {`status = 'online', last_heartbeat_at = NULL, created_at = now() - interval '181 s'`, "offline"},
		"silent, paused":   {`status = 'paused', last_heartbeat_at = now() - interval '1 day'`, "paused"},
	} {
		w.exec(t, `UPDATE workspaces SET runtime = ''`)
		w.exec(t, `UPDATE workspaces SET `+test.set)
		if got, err := w.workspaces.Get(t.Context(), w.ws); err != nil || got.Status != test.want {
			t.Errorf("%s: %q, %v; want %q", name, got.Status, err, test.want)
		}
	}
}

func TestNullDeliveryModeIsRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(t, `ALTER TABLE workspaces ALTER COLUMN delivery_mode DROP NOT NULL`)
	w.exec(t, `UPDATE workspaces SET delivery_mode = NULL`)
	if got, err := w.workspaces.Get(t.Context(), w.ws); err != nil || got.DeliveryMode != "" {
		t.Errorf("mode %q, %v", got.DeliveryMode, err)
	}
}

func TestRegister(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := storage.WorkspaceID(uuid.New())
	first, err := w.workspaces.Register(t.Context(), registration(id))
	if err != nil {
		t.Fatal(err)
	}
	ws := first.Workspace
	if ws.Name != id.String() || ws.Status != "online" || ws.DeliveryMode != "poll" || string(ws.AgentCard) != `{"name":"x"}` || ws.LastHeartbeatAt == nil {
		t.Errorf("registered %+v", ws)
	}
	if len(first.Token) != 43 || len(first.InboundSecret) != 43 || !first.Changed {
		t.Errorf("token %d characters, secret %d, changed %v", len(first.Token), len(first.InboundSecret), first.Changed)
	}
	if _, err := w.workspaces.Register(t.Context(), registration(id)); !errors.Is(err, metadata.ErrTokenRequired) {
		t.Errorf("again without token: %v", err)
	}
	again := registration(id)
	again.Authenticated, again.DeliveryMode, again.URL, again.AgentCard = true, "push", "https://b.example", json.RawMessage(`{"name":"y"}`)
	second, err := w.workspaces.Register(t.Context(), again)
	if err != nil {
		t.Fatal(err)
	}
	if second.Token != "" || second.InboundSecret != first.InboundSecret || second.Workspace.URL != again.URL ||
		second.Workspace.DeliveryMode != "push" || string(second.Workspace.AgentCard) != `{"name":"y"}` {
		t.Errorf("second registration: %+v", second)
	}
	// The feed works at once.
	if _, err := w.activity.Append(t.Context(), id, message("x")); err != nil {
		t.Error(err)
	}
	// An api token does not close the bootstrap, and revoking reopens it.
	list, err := w.tokens.List(t.Context(), id)
	if err != nil || len(list) != 1 {
		t.Fatalf("tokens %v, %v", list, err)
	}
	if err := w.tokens.Revoke(t.Context(), id, list[0].ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.tokens.Mint(t.Context(), id, metadata.TokenAPI); err != nil {
		t.Fatal(err)
	}
	third, err := w.workspaces.Register(t.Context(), registration(id))
	if err != nil || third.Token == "" || third.Token == first.Token {
		t.Errorf("after revocation: token %q, %v", third.Token, err)
	}
	bad := registration(storage.WorkspaceID(uuid.New()))
	bad.AgentCard = json.RawMessage(`{"a":"\u0000"}`)
	if _, err := w.workspaces.Register(t.Context(), bad); !errors.Is(err, metadata.ErrInvalidJSON) {
		t.Errorf("card with NUL: %v", err)
	}
}

func TestRegisterLeavesSomeWorkspacesAlone(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"removed", "paused", "hibernated"} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.exec(t, `UPDATE workspaces SET status = $1`, status)
			before, err := w.workspaces.Get(t.Context(), w.ws)
			if err != nil {
				t.Fatal(err)
			}
			reg, err := w.workspaces.Register(t.Context(), registration(w.ws))
			if err != nil {
				t.Fatal(err)
			}
			// A removed workspace gets no token, because no guard would take it.
			gone := status == "removed"
			if reg.Changed || (reg.Token == "") != gone || (reg.InboundSecret == "") != gone {
				t.Errorf("registered %+v", reg)
			}
			if diff := cmp.Diff(before, reg.Workspace); diff != "" {
				t.Errorf("changed:\n%s", diff)
			}
		})
	}
}

// Both registrations wait for a third that is not committed and then rolls
// back, so both are past every check made before.
func TestConcurrentFirstRegistrationsGiveOneToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := storage.WorkspaceID(uuid.New())
	tx := w.begin(t)
	held := metadata.NewWorkspaces(metadata.WorkspacesConfig{DB: tx})
	if _, err := held.Register(t.Context(), registration(id)); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var tokens []string
	var refused int
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			reg, err := w.workspaces.Register(t.Context(), registration(id))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, metadata.ErrTokenRequired):
				refused++
			case err != nil:
				t.Error(err)
			default:
				tokens = append(tokens, reg.Token)
			}
		})
	}
	w.waitForLockWaiters(t, 2)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if len(tokens) != 1 || tokens[0] == "" || refused != 1 {
		t.Errorf("%d tokens, %d refused; want one of each", len(tokens), refused)
	}
	if list, err := w.tokens.List(t.Context(), id); err != nil || len(list) != 1 {
		t.Errorf("%d tokens stored, %v", len(list), err)
	}
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(t, `UPDATE workspaces SET platform_inbound_secret = NULL, generation = 4, status = 'offline'`)
	reply, err := w.workspaces.Heartbeat(t.Context(), metadata.Heartbeat{
		ID: w.ws, ActiveTasks: ptr(2), CurrentTask: ptr("thinking"), ErrorRate: ptr(0.5), SampleError: ptr("e"), UptimeSeconds: ptr(int64(9)),
	})
	if err != nil || reply.Generation != 4 || len(reply.InboundSecret) != 43 {
		t.Fatalf("reply %+v, %v", reply, err)
	}
	again, err := w.workspaces.Heartbeat(t.Context(), metadata.Heartbeat{ID: w.ws})
	if err != nil || again != reply {
		t.Errorf("second reply %+v, %v; want the first", again, err)
	}
	got, err := w.workspaces.Get(t.Context(), w.ws)
	if err != nil || got.ActiveTasks != 2 || got.CurrentTask != "thinking" || got.LastHeartbeatAt == nil || got.Status != "online" {
		t.Errorf("workspace %+v, %v", got, err)
	}
	for name, id := range map[string]storage.WorkspaceID{"unknown": storage.WorkspaceID(uuid.New()), "removed": w.ws} {
		if name == "removed" {
			if _, err := w.workspaces.Remove(t.Context(), id, metadata.RemoveOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if reply, err := w.workspaces.Heartbeat(t.Context(), metadata.Heartbeat{ID: id}); err != nil || reply != (metadata.HeartbeatReply{}) {
			t.Errorf("%s: %+v, %v; want nothing", name, reply, err)
		}
	}
}

// A feed writer and a heartbeat, each with its transaction held open, do not
// wait for each other.
func TestHeartbeatAndFeedWriterDoNotBlock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	writer := w.begin(t)
	if _, err := inTx(writer).Append(t.Context(), w.ws, message("open")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.workspaces.Heartbeat(t.Context(), metadata.Heartbeat{ID: w.ws}); err != nil {
		t.Errorf("heartbeat while a feed writer is open: %v", err)
	}
	if err := writer.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	beat := w.begin(t)
	if _, err := metadata.NewWorkspaces(metadata.WorkspacesConfig{DB: beat}).Heartbeat(t.Context(), metadata.Heartbeat{ID: w.ws}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.uploads.Insert(t.Context(), w.ws, []metadata.NewUpload{newUpload(t)}); err != nil {
		t.Errorf("upload while a heartbeat is open: %v", err)
	}
}

func TestInboundSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(t, `UPDATE workspaces SET platform_inbound_secret = NULL`)
	first, minted, err := w.workspaces.InboundSecret(t.Context(), w.ws)
	if err != nil || !minted || len(first) != 43 {
		t.Fatalf("first: %d characters, minted %v, %v", len(first), minted, err)
	}
	second, minted, err := w.workspaces.InboundSecret(t.Context(), w.ws)
	if err != nil || minted || second != first {
		t.Errorf("second: same %v, minted %v, %v", second == first, minted, err)
	}
	if _, _, err := w.workspaces.InboundSecret(t.Context(), storage.WorkspaceID(uuid.New())); !errors.Is(err, storage.ErrWorkspaceNotFound) {
		t.Errorf("unknown: %v", err)
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.workspace(t, "taken", nil)
	if err := w.workspaces.Update(t.Context(), w.ws, metadata.WorkspaceUpdate{Name: ptr("new"), TalkToUser: ptr(false)}); err != nil {
		t.Fatal(err)
	}
	if err := w.workspaces.UpdateCard(t.Context(), w.ws, json.RawMessage(`{"k": [ ]}`)); err != nil {
		t.Fatal(err)
	}
	got, err := w.workspaces.Get(t.Context(), w.ws)
	if err != nil || got.Name != "new" || got.TalkToUser || string(got.AgentCard) != `{"k":[]}` {
		t.Errorf("workspace %+v, %v", got, err)
	}
	if err := w.workspaces.Update(t.Context(), w.ws, metadata.WorkspaceUpdate{Name: ptr("taken")}); !errors.Is(err, metadata.ErrNameTaken) {
		t.Errorf("taken name: %v", err)
	}
	unknown := storage.WorkspaceID(uuid.New())
	if err := w.workspaces.Update(t.Context(), unknown, metadata.WorkspaceUpdate{}); !errors.Is(err, storage.ErrWorkspaceNotFound) {
		t.Errorf("unknown: %v", err)
	}
	if err := w.workspaces.UpdateCard(t.Context(), unknown, json.RawMessage(`{}`)); !errors.Is(err, storage.ErrWorkspaceNotFound) {
		t.Errorf("card of unknown: %v", err)
	}
}

func TestOfflineAfterIsConfigurable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(t, `UPDATE workspaces SET last_heartbeat_at = now() - interval '91 s'`)
	short := metadata.NewWorkspaces(metadata.WorkspacesConfig{DB: w.pool, OfflineAfter: 90 * time.Second})
	if got, err := short.Get(t.Context(), w.ws); err != nil || got.Status != "offline" {
		t.Errorf("status %q, %v", got.Status, err)
	}
}
