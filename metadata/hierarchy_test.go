package metadata_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

func TestHierarchy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := w.ws
	a := w.workspace(t, "a", &root)
	b := w.workspace(t, "b", &root)
	deep := w.workspace(t, "deep", &a)
	lone := w.workspace(t, "lone", nil)
	for name, test := range map[string]struct {
		x, y storage.WorkspaceID
		want bool
	}{
		"self": {a, a, true}, "siblings": {a, b, true}, "parent": {a, root, true}, "ancestor": {deep, root, true},
		"descendant": {root, deep, true}, "uncle": {deep, b, false}, "roots": {root, lone, false},
		"unknown": {a, storage.WorkspaceID(uuid.New()), false},
	} {
		if got, err := w.workspaces.Related(t.Context(), test.x, test.y); err != nil || got != test.want {
			t.Errorf("related %s: %v, %v; want %v", name, got, err, test.want)
		}
	}
	names := func(list []metadata.Workspace, err error) []string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		got := []string{}
		for _, ws := range list {
			got = append(got, ws.Name)
		}
		return got
	}
	for id, want := range map[storage.WorkspaceID][]string{a: {"receiver", "b", "deep"}, root: {"a", "b"}, lone: {}, deep: {"a"}} {
		if got := names(w.workspaces.Peers(t.Context(), id)); !slices.Equal(got, want) {
			t.Errorf("peers of %s = %v, want %v", id, got, want)
		}
	}
	if got := names(w.workspaces.Children(t.Context(), root)); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("children = %v", got)
	}
}

func TestReparent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root, lone := w.ws, w.workspace(t, "lone", nil)
	child := w.workspace(t, "child", &root)
	grandchild := w.workspace(t, "grandchild", &child)
	gone := w.workspace(t, "gone", nil)
	if _, err := w.workspaces.Remove(t.Context(), gone, metadata.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	unknown := storage.WorkspaceID(uuid.New())
	twin := w.workspace(t, "child", nil)
	for name, test := range map[string]struct {
		id     storage.WorkspaceID
		parent *storage.WorkspaceID
		code   string
		is     error
	}{
		"self":             {root, &root, metadata.ReparentSelf, nil},
		"under child":      {root, &child, metadata.ReparentCycle, nil},
		"under grandchild": {root, &grandchild, metadata.ReparentCycle, nil},
		"unknown parent":   {lone, &unknown, metadata.ReparentNoParent, nil},
		"removed parent":   {lone, &gone, metadata.ReparentNoParent, nil},
		"child to root":    {child, nil, metadata.ReparentRootPromotion, nil},
		"name taken":       {twin, &root, metadata.ReparentNameTaken, nil},
		"unknown":          {unknown, &root, "", storage.ErrWorkspaceNotFound},
		"removed":          {gone, &root, "", storage.ErrWorkspaceNotFound},
	} {
		_, err := w.workspaces.Reparent(t.Context(), test.id, test.parent)
		var refusal *metadata.ReparentError
		switch {
		case test.is != nil:
			if !errors.Is(err, test.is) {
				t.Errorf("%s: %v, want %v", name, err, test.is)
			}
		case !errors.As(err, &refusal) || refusal.Code != test.code:
			t.Errorf("%s: %v, want %s", name, err, test.code)
		}
	}
	for range 2 { // the second time it changes nothing
		got, err := w.workspaces.Reparent(t.Context(), lone, &root)
		if err != nil || got.ParentID == nil || *got.ParentID != root {
			t.Errorf("attach: %+v, %v", got, err)
		}
	}
	if got, err := w.workspaces.Reparent(t.Context(), root, nil); err != nil || got.ParentID != nil {
		t.Errorf("a root stays a root: %v", err)
	}
}

// A goes under B while B goes under A: each is fine alone.
func TestConcurrentReparentsMakeNoCycle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.ws, w.workspace(t, "b", nil)
	tx := w.begin(t)
	if _, err := metadata.NewWorkspaces(metadata.WorkspacesConfig{DB: tx}).Reparent(t.Context(), a, &b); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := w.workspaces.Reparent(t.Context(), b, &a)
		done <- err
	}()
	w.waitForLockWaiters(t, 1)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	var refusal *metadata.ReparentError
	if err := <-done; !errors.As(err, &refusal) || refusal.Code != metadata.ReparentCycle {
		t.Errorf("second: %v, want a cycle", err)
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	child := w.workspace(t, "child", &w.ws)
	grandchild := w.workspace(t, "grandchild", &child)
	var secrets []string
	for _, id := range []storage.WorkspaceID{w.ws, child, grandchild} {
		secret, _, err := w.tokens.Mint(t.Context(), id, metadata.TokenAPI)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, secret)
	}
	r := w.stage(t, nil)
	if _, err := w.workspaces.Remove(t.Context(), w.ws, metadata.RemoveOptions{}); !errors.Is(err, metadata.ErrHasChildren) {
		t.Errorf("with children: %v", err)
	}
	if n, err := w.workspaces.Remove(t.Context(), w.ws, metadata.RemoveOptions{Descendants: true}); err != nil || n != 2 {
		t.Errorf("Remove = %d, %v; want 2", n, err)
	}
	for i, secret := range secrets {
		if _, err := w.tokens.Resolve(t.Context(), secret); !errors.Is(err, metadata.ErrTokenNotFound) {
			t.Errorf("token %d still works: %v", i, err)
		}
	}
	got, err := w.workspaces.Get(t.Context(), grandchild)
	if err != nil || !got.Removed() || got.RemovedAt == nil {
		t.Errorf("grandchild %+v, %v", got, err)
	}
	if _, err := w.workspaces.Remove(t.Context(), w.ws, metadata.RemoveOptions{}); !errors.Is(err, metadata.ErrWorkspaceRemoved) {
		t.Errorf("again: %v", err)
	}
	if _, err := w.workspaces.Remove(t.Context(), storage.WorkspaceID(uuid.New()), metadata.RemoveOptions{}); !errors.Is(err, storage.ErrWorkspaceNotFound) {
		t.Errorf("unknown: %v", err)
	}
	if _, err := w.uploads.Get(t.Context(), w.ws, r.FileID); err != nil {
		t.Errorf("staged upload did not outlive its workspace: %v", err)
	}
}

func TestPurge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	child := w.workspace(t, "child", &w.ws)
	w.append(t, message("x"))
	if _, _, err := w.tokens.Mint(t.Context(), child, metadata.TokenAPI); err != nil {
		t.Fatal(err)
	}
	if _, err := w.activity.AckSeq(t.Context(), w.ws, 1); err != nil {
		t.Fatal(err)
	}
	if n, err := w.workspaces.Remove(t.Context(), w.ws, metadata.RemoveOptions{Descendants: true, Purge: true}); err != nil || n != 1 {
		t.Fatalf("Remove = %d, %v", n, err)
	}
	for _, table := range []string{"workspaces", "workspace_auth_tokens", "activity_feeds", "activity_logs", "inbox_delivery_state"} {
		if n := query[int](t, w.pool, `SELECT count(*) FROM `+table); n != 0 {
			t.Errorf("%s has %d rows", table, n)
		}
	}
}
