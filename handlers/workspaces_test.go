package handlers_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

func (w *world) patch(ws storage.WorkspaceID, token, body string) reply {
	w.t.Helper()
	return w.do("PATCH", "/workspaces/"+ws.String(), token, strings.NewReader(body))
}

// wantCode checks status and code.
func (r reply) wantCode(t *testing.T, status int, code string) {
	t.Helper()
	var e struct {
		Error string `json:"error"`
		Code  string `json:"code"`
	}
	r.json(t, &e)
	if r.status != status || e.Code != code || e.Error == "" {
		t.Errorf("%d %s, want %d with an error and code %s", r.status, r.body, status, code)
	}
}

func TestReparenting(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	a, aToken := w.workspace("poll")
	b, _ := w.workspace("poll")
	c, _ := w.workspace("poll")
	to := func(id fmt.Stringer) string { return `{"parent_id":"` + id.String() + `"}` }

	w.patch(a, aToken, to(b)).wantCode(t, 403, "WORKSPACE_INFRASTRUCTURE_AUTH_REQUIRED")
	if got := w.patch(a, adminToken, to(b)); got.status != 200 || got.body != `{"status":"updated","reparented":true,"needs_restart":false}` {
		t.Fatalf("attach a root under another: %d %s", got.status, got.body)
	}
	w.patch(b, adminToken, to(a)).wantCode(t, 409, "WORKSPACE_REPARENT_CYCLE")
	w.patch(a, adminToken, to(a)).wantCode(t, 400, "WORKSPACE_REPARENT_SELF")
	w.patch(a, adminToken, to(newWorkspaceID(t))).wantCode(t, 404, "WORKSPACE_REPARENT_PARENT_NOT_FOUND")
	w.patch(newWorkspaceID(t), adminToken, to(a)).wantCode(t, 404, "WORKSPACE_REPARENT_WORKSPACE_NOT_FOUND")
	w.patch(a, adminToken, `{"parent_id":null}`).wantCode(t, 422, "WORKSPACE_REPARENT_ROOT_PROMOTION_FORBIDDEN")
	w.patch(a, adminToken, `{"parent_id":"x"}`).wantCode(t, 400, "WORKSPACE_REPARENT_INVALID_PARENT")
	w.patch(a, adminToken, `{"parent_id":7}`).wantCode(t, 400, "WORKSPACE_REPARENT_INVALID_PARENT")
	w.patch(a, adminToken, `{"parent_id":"`+c.String()+`","name":"n"}`).wantCode(t, 400, "WORKSPACE_REPARENT_NOT_ALONE")
	if got := w.patch(c, adminToken, `{"parent_id":null}`); got.status != 200 || !strings.Contains(got.body, `"status":"updated"`) {
		t.Errorf("null for a root: %d %s", got.status, got.body)
	}
	w.patch(newWorkspaceID(t), adminToken, to(b)).want(t, 404, "workspace not found")
}

func TestPatchOtherFields(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	a, token := w.workspace("poll")
	b, _ := w.workspace("poll")
	if got := w.patch(a, token, `{"name":" new ","unknown":1}`); got.status != 200 {
		t.Errorf("rename: %d %s", got.status, got.body)
	}
	if got := w.do("GET", "/workspaces/"+a.String(), "", nil); !strings.Contains(got.body, `"name":"new"`) {
		t.Errorf("after rename: %s", got.body)
	}
	w.patch(b, adminToken, `{"name":"new"}`).want(t, 409, "a workspace of that name exists here")
	for _, body := range []string{`{"name":""}`, `{"name":1}`, `{"name":null}`} {
		w.patch(a, token, body).want(t, 400, "name is required")
	}
	for _, body := range []string{``, `[]`, `null`, `{"name":`, `{"talk_to_user_enabled":1}`, `{"name":"\u0000"}`} {
		w.patch(a, adminToken, body).want(t, 400, "invalid request body")
	}
	w.patch(a, token, `{"talk_to_user_enabled":false}`).wantCode(t, 403, "WORKSPACE_INFRASTRUCTURE_AUTH_REQUIRED")
	if got := w.patch(a, adminToken, `{"talk_to_user_enabled":false}`); got.status != 200 {
		t.Errorf("%d %s", got.status, got.body)
	}
	got := w.postJSON("/workspaces/"+a.String()+"/notify", token, `{"message":"x"}`)
	got.want(t, 403, "talk_to_user_disabled")
	if !strings.Contains(got.body, `"hint":"`) {
		t.Errorf("no hint: %s", got.body)
	}
}

func TestDeleteWorkspace(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	child, childToken := w.workspace("poll")
	grandchild, _ := w.workspace("poll")
	for id, parent := range map[storage.WorkspaceID]storage.WorkspaceID{child: ws, grandchild: child} {
		if _, err := w.workspaces.Reparent(t.Context(), id, &parent); err != nil {
			t.Fatal(err)
		}
	}
	files := w.mustUpload(ws, token, part{name: "a", content: "x"})
	del := func(id, query string, name string) reply {
		return w.do("DELETE", "/workspaces/"+id+query, adminToken, nil, "X-Confirm-Name", name)
	}
	del("x", "", "").want(t, 400, "invalid workspace ID")
	del(newWorkspaceID(t).String(), "", "").want(t, 404, "workspace not found")
	got := del(ws.String(), "?confirm=true", "other")
	got.want(t, 400, "destructive_action_requires_confirmation")
	for _, key := range []string{`"hint":"`, `"workspace_name":"` + ws.String() + `"`, `"active_tasks":0`, `"child_count":1`} {
		if !strings.Contains(got.body, key) {
			t.Errorf("%s lacks %s", got.body, key)
		}
	}
	w.do("DELETE", "/workspaces/"+ws.String(), adminToken, nil).want(t, 400, "destructive_action_requires_confirmation")
	got = del(ws.String(), "", ws.String())
	if got.status != 409 || strings.Contains(got.body, `"error"`) || !strings.Contains(got.body, `{"status":"confirmation_required","message":"`) ||
		!strings.Contains(got.body, `"children":[{"id":"`+child.String()+`","name":"`+child.String()+`"}],"children_count":1`) {
		t.Errorf("with children: %d %s", got.status, got.body)
	}
	if got := del(ws.String(), "?confirm=true", ws.String()); got.status != 200 || got.body != `{"status":"removed","cascade_deleted":2}` {
		t.Errorf("%d %s", got.status, got.body)
	}
	got = del(ws.String(), "", ws.String())
	got.want(t, 410, "workspace removed")
	if !strings.Contains(got.body, `"id":"`+ws.String()+`"`) {
		t.Errorf("no id: %s", got.body)
	}
	w.do("GET", "/workspaces/"+ws.String()+"/activity", token, nil).want(t, 401, "invalid workspace auth token")
	w.do("GET", "/workspaces/"+child.String()+"/activity", childToken, nil).want(t, 401, "invalid workspace auth token")
	if got := w.do("GET", files[0].path("content"), adminToken, nil); got.status != 200 {
		t.Errorf("staged bytes with the admin token: %d %s", got.status, got.body)
	}

	got = w.do("GET", "/workspaces/"+ws.String(), "", nil)
	got.want(t, 410, "workspace removed")
	for _, key := range []string{`"id":"`, `"hint":"`, `"removed_at":"2`} {
		if !strings.Contains(got.body, key) {
			t.Errorf("%s lacks %s", got.body, key)
		}
	}
	if got := w.do("GET", "/workspaces/"+ws.String()+"?include_removed=true", "", nil); got.status != 200 || !strings.Contains(got.body, `"status":"removed"`) {
		t.Errorf("include_removed: %d %s", got.status, got.body)
	}
}

func TestPurgeWorkspace(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, _ := w.workspace("poll")
	got := w.do("DELETE", "/workspaces/"+ws.String()+"?purge=true", adminToken, nil, "X-Confirm-Name", ws.String())
	if got.status != 200 || got.body != `{"status":"purged","cascade_deleted":0}` {
		t.Errorf("%d %s", got.status, got.body)
	}
	w.do("GET", "/workspaces/"+ws.String(), "", nil).want(t, 404, "workspace not found")
}

func TestGetWorkspaceIsPublicAndKeepsSecrets(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, _ := w.workspace("poll")
	w.exec(`UPDATE workspaces SET platform_inbound_secret = 'the-secret', current_task = 'the-task' WHERE id = $1`, ws.String())
	got := w.do("GET", "/workspaces/"+strings.ToUpper(ws.String()), "", nil)
	if got.status != 200 || strings.Contains(got.body, "the-secret") || strings.Contains(got.body, "the-task") {
		t.Errorf("%d %s", got.status, got.body)
	}
	for _, fragment := range []string{`"id":"` + ws.String() + `"`, `"name":`, `"status":"online"`, `"role":null`, `"tier":1`, `"runtime":""`, `"url":""`, `"parent_id":null`, `"agent_card":null`, `"active_tasks":0`, `"last_heartbeat_at":null`, `"delivery_mode":"poll"`} {
		if !strings.Contains(got.body, fragment) {
			t.Errorf("%s lacks %s", got.body, fragment)
		}
	}
	w.do("GET", "/workspaces/x", "", nil).want(t, 400, "invalid workspace ID")
	w.do("GET", "/workspaces/"+newWorkspaceID(t).String(), "", nil).want(t, 404, "workspace not found")
}

// created is the reply of POST /workspaces.
type created struct {
	ID         string  `json:"id"`
	External   bool    `json:"external"`
	Status     string  `json:"status"`
	AuthToken  *string `json:"auth_token"`
	Connection *struct {
		AuthToken string `json:"auth_token"`
	} `json:"connection"`
}

func TestCreateWorkspace(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	create := func(body string) (created, reply) {
		got := w.postJSON("/workspaces", adminToken, body)
		var c created
		got.json(t, &c)
		return c, got
	}
	external, got := create(`{"name":"ext","external":true,"tier":2,"runtime":"external"}`)
	if got.status != 201 || !external.External || external.Status != "awaiting_agent" || external.Connection == nil || external.AuthToken != nil {
		t.Fatalf("external: %d %s", got.status, got.body)
	}
	token := external.Connection.AuthToken
	ws, err := storage.ParseWorkspaceID(external.ID)
	if err != nil {
		t.Fatal(err)
	}
	w.upload(ws, token, part{name: "a", content: "x"}).want(t, 503, "workspace url not registered yet")
	body := `{"id":"` + external.ID + `","agent_card":{},"delivery_mode":"poll"}`
	w.postJSON("/registry/register", "", body).want(t, 401, "missing workspace auth token")
	if got := w.postJSON("/registry/register", token, body); got.status != 200 || strings.Contains(got.body, "auth_token") {
		t.Errorf("register with the connection's token: %d %s", got.status, got.body)
	}
	w.mustUpload(ws, token, part{name: "a", content: "x"})

	if c, got := create(`{"name":"url","external":true,"url":"http://8.8.8.8"}`); got.status != 201 || c.Status != "online" || c.Connection != nil || c.AuthToken != nil {
		t.Errorf("external with URL: %d %s", got.status, got.body)
	}
	if c, got := create(`{"name":"plain"}`); got.status != 201 || c.External || c.AuthToken == nil || c.Connection != nil {
		t.Errorf("ordinary: %d %s", got.status, got.body)
	} else if tok, err := w.tokens.Resolve(t.Context(), *c.AuthToken); err != nil || tok.Kind != metadata.TokenAPI {
		t.Errorf("ordinary: token %+v, %v, want kind api", tok, err)
	}
	for body, text := range map[string]string{
		`{`: "invalid request body", `[]`: "invalid request body", `{"name":1}`: "invalid request body",
		`{"name":"x","tier":"2"}`: "invalid request body", `{"name":"x","tier":-1}`: "invalid request body",
		`{"name":"x","agent_card":[]}`: "invalid request body", `{"name":"\u0000"}`: "invalid request body",
		`{}`: "name is required", `{"name":"  "}`: "name is required",
		`{"name":"x","delivery_mode":"y"}`:                              "delivery_mode must be 'push' or 'poll'",
		`{"name":"x","parent_id":"y"}`:                                  "parent workspace not found",
		`{"name":"x","parent_id":"` + newWorkspaceID(t).String() + `"}`: "parent workspace not found",
		`{"name":"x","url":"http://127.0.0.1"}`:                         "url leads to 127.0.0.1, which is a loopback address",
	} {
		w.postJSON("/workspaces", adminToken, body).want(t, 400, text)
	}
	w.postJSON("/workspaces", adminToken, `{"name":"plain"}`).want(t, 409, "a workspace of that name exists here")

	var list []struct {
		Name string `json:"name"`
	}
	w.do("GET", "/workspaces", adminToken, nil).json(t, &list)
	if len(list) != 3 {
		t.Errorf("list %v, want 3", list)
	}
}

func TestAdminTokens(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, _ := w.workspace("poll")
	path := "/admin/workspaces/" + ws.String() + "/tokens"
	var minted struct {
		AuthToken string `json:"auth_token"`
		Kind      string `json:"kind"`
	}
	got := w.do("POST", path, adminToken, nil)
	got.json(t, &minted)
	if got.status != 201 || minted.Kind != "api" || len(minted.AuthToken) != 43 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if got := w.do("GET", "/workspaces/"+ws.String()+"/activity", minted.AuthToken, nil); got.status != 200 {
		t.Errorf("minted token: %d %s", got.status, got.body)
	}
	for range metadata.MaxLiveTokens - 2 { // one instance token, one minted
		if got := w.do("POST", path, adminToken, nil); got.status != 201 {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	w.do("POST", path, adminToken, nil).want(t, 429, "too many live tokens (limit 50)")
	w.do("POST", "/admin/workspaces/x/tokens", adminToken, nil).want(t, 400, "invalid workspace id")
	w.do("POST", "/admin/workspaces/"+newWorkspaceID(t).String()+"/tokens", adminToken, nil).want(t, 404, "workspace not found")
}
