package handlers_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/metadata"
)

func openRegistration(c *handlers.Config) { c.Registration = handlers.RegistrationOpen }

func developmentMode(c *handlers.Config) { c.Addresses.Development = true }

const zeroID = "00000000-0000-0000-0000-000000000000"

// registered is the reply of a registration.
type registered struct {
	Status        string  `json:"status"`
	DeliveryMode  string  `json:"delivery_mode"`
	AuthToken     *string `json:"auth_token"`
	InboundSecret string  `json:"platform_inbound_secret"`
}

func (w *world) register(token, body string) (registered, reply) {
	w.t.Helper()
	got := w.postJSON("/registry/register", token, body)
	var reg registered
	if got.status == http.StatusOK {
		got.json(w.t, &reg)
	}
	return reg, got
}

func TestRegisterBootstrapsOnce(t *testing.T) {
	t.Parallel()
	w := newServer(t, openRegistration)
	id := newWorkspaceID(t).String()
	body := `{"id":"` + id + `","agent_card":{"name":"x"},"delivery_mode":"poll","url":"","unknown":1}`

	first, got := w.register("some-unknown-bearer", body)
	if got.status != 200 || !strings.Contains(got.body, `"status":"registered"`) || !strings.Contains(got.body, `"delivery_mode":"poll"`) {
		t.Fatalf("first registration: %d %s", got.status, got.body)
	}
	if first.AuthToken == nil || len(*first.AuthToken) != 43 || len(first.InboundSecret) != 43 {
		t.Fatalf("first registration has no token or secret of 43 characters: %s", got.body)
	}
	_, got = w.register("", body)
	got.want(t, 401, "missing workspace auth token")
	_, got = w.register("wrong", body)
	got.want(t, 401, "invalid workspace auth token")

	again, got := w.register(*first.AuthToken, body)
	if got.status != 200 || again.AuthToken != nil || again.InboundSecret != first.InboundSecret {
		t.Errorf("re-registration: %d %s, want no token and the same secret", got.status, got.body)
	}
	var row struct {
		Name   string `json:"name"`
		Status string `json:"status"`
	}
	w.do("GET", "/workspaces/"+id, "", nil).json(t, &row)
	if row.Name != id || row.Status != "online" {
		t.Errorf("row %+v, want the id as name, online", row)
	}
}

func TestRegisterOpensAgainWhenEveryTokenIsRevoked(t *testing.T) {
	t.Parallel()
	w := newServer(t, openRegistration)
	ws, token := w.workspace("poll")
	tok, err := w.tokens.Resolve(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.tokens.Revoke(t.Context(), ws, tok.ID); err != nil {
		t.Fatal(err)
	}
	reg, got := w.register(token, `{"id":"`+ws.String()+`","agent_card":{}}`)
	if got.status != 200 || reg.AuthToken == nil {
		t.Errorf("%d %s, want a new token", got.status, got.body)
	}
}

func TestApiTokenDoesNotCloseTheBootstrapAndCountsAsTheWorkspaces(t *testing.T) {
	t.Parallel()
	w := newServer(t, openRegistration)
	ws, _, err := w.workspaces.Create(t.Context(), metadata.NewWorkspace{DeliveryMode: "poll"}, "")
	if err != nil {
		t.Fatal(err)
	}
	api, _, err := w.tokens.Mint(t.Context(), ws.ID, metadata.TokenAPI)
	if err != nil {
		t.Fatal(err)
	}
	body := `{"id":"` + ws.ID.String() + `","agent_card":{}}`
	if reg, got := w.register("", body); got.status != 200 || reg.AuthToken == nil {
		t.Errorf("bootstrap beside an api token: %d %s", got.status, got.body)
	}
	if reg, got := w.register(api, body); got.status != 200 || reg.AuthToken != nil {
		t.Errorf("registration with the api token: %d %s", got.status, got.body)
	}
}

func TestRegisterConditions(t *testing.T) {
	t.Parallel()
	w := newServer(t, openRegistration)
	owned, _ := w.workspace("poll")
	id := `"id":"` + newWorkspaceID(t).String() + `","agent_card":{}`
	card := func(card string) string { return `{"id":"` + zeroID[:35] + `9","agent_card":` + card + `}` }
	tests := []struct {
		name, body string
		status     int
		text       string // "" for any
	}{
		{"not JSON", `{`, 400, "invalid request body"},
		{"two values", `{} {}`, 400, "invalid request body"},
		{"a list", `[]`, 400, "invalid request body"},
		{"no id", `{"agent_card":{}}`, 400, "invalid request body"},
		{"id of the wrong type", `{"id":1,"agent_card":{}}`, 400, "invalid request body"},
		{"no card", `{"id":"x"}`, 400, "invalid request body"},
		{"card null", card(`null`), 400, "invalid request body"},
		{"card a string", card(`"x"`), 400, "invalid request body"},
		{"card with NUL", `{"id":"` + newWorkspaceID(t).String() + `","delivery_mode":"poll","agent_card":{"name":"\u0000"}}`, 400, "invalid request body"},
		{"url of the wrong type", `{` + id + `,"url":7}`, 400, "invalid request body"},
		{"bad mode", `{` + id + `,"delivery_mode":"pull"}`, 400, "delivery_mode must be 'push' or 'poll'"},
		{"bad mode before token", `{"id":"` + owned.String() + `","agent_card":{},"delivery_mode":"pull"}`, 400, "delivery_mode must be 'push' or 'poll'"},
		{"bad mode before kind", `{` + id + `,"kind":"x","delivery_mode":"pull"}`, 400, "delivery_mode must be 'push' or 'poll'"},
		{"bad kind before token", `{"id":"` + owned.String() + `","agent_card":{},"kind":"x"}`, 400, "kind must be 'workspace' or 'platform'"},
		{"token before platform", `{"id":"` + owned.String() + `","agent_card":{},"kind":"platform"}`, 401, "missing workspace auth token"},
		{"platform before URL", `{` + id + `,"kind":"platform","delivery_mode":"push"}`, 403, ""},
		{"push without URL", `{` + id + `,"delivery_mode":"push"}`, 400, "url is required for push-mode workspaces"},
		{"no mode is push", `{` + id + `}`, 400, "url is required for push-mode workspaces"},
		{"push with loopback URL", `{` + id + `,"url":"http://127.0.0.1:1"}`, 400, "url leads to 127.0.0.1, which is a loopback address"},
		{"push with private URL", `{` + id + `,"url":"http://10.1.2.3"}`, 400, "url leads to 10.1.2.3, which is a private address"},
		{"push with metadata URL", `{` + id + `,"url":"http://[::ffff:169.254.169.254]"}`, 400, ""},
		{"push with another scheme", `{` + id + `,"url":"file:///etc/passwd"}`, 400, "url must use http or https"},
		{"push with bad card URL", card(`{"url":"http://127.0.0.1"}`), 400, "workspace agent_card URL not allowed"},
		{"id no UUID", `{"id":"x","agent_card":{},"delivery_mode":"poll"}`, 500, "registration failed"},
		{"push to localhost", `{` + id + `,"url":"http://localhost:3000"}`, 200, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, got := w.register("", test.body)
			if got.status != test.status || test.text != "" && got.errorText(t) != test.text {
				t.Errorf("%d %s, want %d %q", got.status, got.body, test.status, test.text)
			}
		})
	}
}

func TestPollRegistrationIgnoresTheURL(t *testing.T) {
	t.Parallel()
	w := newServer(t, openRegistration)
	for _, url := range []string{"", "http://127.0.0.1:1", "nonsense", "http://absent.invalid"} {
		body, err := json.Marshal(map[string]any{"id": newWorkspaceID(t).String(), "agent_card": map[string]any{}, "delivery_mode": "poll", "url": url})
		if err != nil {
			t.Fatal(err)
		}
		if _, got := w.register("", string(body)); got.status != 200 {
			t.Errorf("url %q: %d %s", url, got.status, got.body)
		}
	}
}

func TestEffectiveMode(t *testing.T) {
	t.Parallel()
	w := newServer(t, developmentMode)
	tests := []struct {
		name, runtime, stored, requested, want string
	}{
		{"requested wins", "", "push", "poll", "poll"},
		{"stored", "", "poll", "", "poll"},
		{"external without stored mode", "external", "NULL", "", "poll"},
		{"neither", "", "NULL", "", "push"},
	}
	w.exec(`ALTER TABLE workspaces ALTER COLUMN delivery_mode DROP NOT NULL`)
	for _, test := range tests {
		ws, token, err := w.workspaces.Create(t.Context(), metadata.NewWorkspace{Runtime: test.runtime, DeliveryMode: strings.ReplaceAll(test.stored, "NULL", "push")}, metadata.TokenInstance)
		if err != nil {
			t.Fatal(err)
		}
		if test.stored == "NULL" {
			w.exec(`UPDATE workspaces SET delivery_mode = NULL WHERE id = $1`, ws.ID.String())
		}
		reg, got := w.register(token, `{"id":"`+ws.ID.String()+`","agent_card":{"url":"http://127.0.0.1:9"},"delivery_mode":"`+test.requested+`"}`)
		if reg.DeliveryMode != test.want {
			t.Errorf("%s: %d %s, want %s", test.name, got.status, got.body, test.want)
		}
	}
}

func TestRegisterLeavesRemovedPausedAndHibernatedRowsAlone(t *testing.T) {
	t.Parallel()
	w := newServer(t, openRegistration)
	for _, status := range []string{"removed", "paused", "hibernated"} {
		ws, token := w.workspace("push")
		if status == "removed" {
			if _, err := w.workspaces.Remove(t.Context(), ws, metadata.RemoveOptions{}); err != nil {
				t.Fatal(err)
			}
		} else {
			w.exec(`UPDATE workspaces SET status = $2 WHERE id = $1`, ws.String(), status)
		}
		reg, got := w.register(token, `{"id":"`+ws.String()+`","agent_card":{"name":"new"},"delivery_mode":"poll"}`)
		if got.status != 200 || reg.Status != "registered" || reg.AuthToken != nil {
			t.Errorf("%s: %d %s, want 200 registered without a token", status, got.status, got.body)
		}
		if n := w.count(`SELECT count(*) FROM workspaces WHERE id = $1 AND status = $2 AND delivery_mode = 'push' AND agent_card IS NULL`, ws.String(), status); n != 1 {
			t.Errorf("%s: the row was changed", status)
		}
	}
}

// A pause is no lock-out: whoever is paused and has lost every token bootstraps
// like anybody else, and the row stays as it is.
func TestPausedWorkspaceWithoutTokensBootstraps(t *testing.T) {
	t.Parallel()
	w := newServer(t, openRegistration)
	for _, status := range []string{"paused", "hibernated"} {
		ws, _, err := w.workspaces.Create(t.Context(), metadata.NewWorkspace{DeliveryMode: "poll", Status: status}, "")
		if err != nil {
			t.Fatal(err)
		}
		reg, got := w.register("", `{"id":"`+ws.ID.String()+`","agent_card":{"name":"new"}}`)
		if got.status != 200 || reg.AuthToken == nil {
			t.Fatalf("%s: %d %s, want a token", status, got.status, got.body)
		}
		w.feed(ws.ID, *reg.AuthToken, "")
		if n := w.count(`SELECT count(*) FROM workspaces WHERE id = $1 AND status = $2 AND agent_card IS NULL`, ws.ID.String(), status); n != 1 {
			t.Errorf("%s: the row was changed", status)
		}
	}
}

func TestClosedRegistration(t *testing.T) {
	t.Parallel()
	w := newServer(t, func(c *handlers.Config) { c.JoinToken = "join-us" })
	body := func(id string) string { return `{"id":"` + id + `","agent_card":{},"delivery_mode":"poll"}` }
	id := newWorkspaceID(t).String()
	_, got := w.register("", body(id))
	got.want(t, 401, "missing workspace auth token")
	_, got = w.register("wrong", body(id))
	got.want(t, 401, "invalid workspace auth token")
	_, got = w.register("", body("no-uuid"))
	got.want(t, 401, "missing workspace auth token")
	_, got = w.register("", `{"id":"`+id+`","agent_card":{},"delivery_mode":"x"}`)
	got.want(t, 400, "delivery_mode must be 'push' or 'poll'")
	if n := w.count(`SELECT count(*) FROM workspaces`); n != 0 {
		t.Fatalf("%d rows were made", n)
	}
	if reg, got := w.register("join-us", body(id)); got.status != 200 || reg.AuthToken == nil {
		t.Errorf("join token: %d %s", got.status, got.body)
	}
	_, got = w.register("join-us", body(id))
	got.want(t, 401, "invalid workspace auth token")
	if reg, got := w.register(adminToken, body(newWorkspaceID(t).String())); got.status != 200 || reg.AuthToken == nil {
		t.Errorf("admin token: %d %s", got.status, got.body)
	}
}

// Of registrations that race for an id, one gets a token, and the others are
// told that they need it. The race is held open: all wait for the row.
func TestRegistrationRace(t *testing.T) {
	t.Parallel()
	w := newServer(t, openRegistration)
	ws, _, err := w.workspaces.Create(t.Context(), metadata.NewWorkspace{DeliveryMode: "poll"}, "")
	if err != nil {
		t.Fatal(err)
	}
	tx, err := w.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	if _, err := tx.Exec(t.Context(), `SELECT FROM workspaces WHERE id = $1 FOR UPDATE`, ws.ID.String()); err != nil {
		t.Fatal(err)
	}
	const racers = 4
	replies := make([]reply, racers)
	var wg sync.WaitGroup
	for i := range racers {
		wg.Go(func() {
			_, replies[i] = w.register("", `{"id":"`+ws.ID.String()+`","agent_card":{}}`)
		})
	}
	eventually(t, "all racers wait for the row", func() bool {
		return w.count(`SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) >= racers
	})
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	won := 0
	for _, got := range replies {
		if got.status == 200 && strings.Contains(got.body, `"auth_token"`) {
			won++
			continue
		}
		got.want(t, 401, "missing workspace auth token")
	}
	if won != 1 {
		t.Errorf("%d racers got a token, want 1", won)
	}
}

func TestTokenLookupFailureAtRegistration(t *testing.T) {
	t.Parallel()
	for _, open := range []bool{false, true} {
		w := newServer(t, openRegistration, func(c *handlers.Config) { c.RegisterFailOpen = open })
		w.exec(`ALTER TABLE workspace_auth_tokens RENAME TO hidden`)
		_, got := w.register("", `{"id":"`+newWorkspaceID(t).String()+`","agent_card":{},"delivery_mode":"poll"}`)
		if open {
			// It is let through to the transaction, which needs the table too.
			got.want(t, 500, "registration failed")
		} else {
			got.want(t, 503, "platform datastore unavailable — retry shortly")
		}
	}
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	w.exec(`UPDATE workspaces SET platform_inbound_secret = NULL, last_heartbeat_at = NULL WHERE id = $1`, ws.String())
	beat := func(token, body string) reply { return w.postJSON("/registry/heartbeat", token, body) }

	got := beat(token, `{"workspace_id":"`+ws.String()+`"}`)
	if got.status != 200 || !strings.HasPrefix(got.body, `{"status":"ok","generation":0,"platform_inbound_secret":"`) {
		t.Errorf("heartbeat: %d %s", got.status, got.body)
	}
	full := `{"workspace_id":"` + ws.String() + `","error_rate":1,"uptime_seconds":61.75,"active_tasks":2.0,"unknown":[]}`
	if got := beat(token, full); got.status != 200 || w.count(`SELECT uptime_seconds FROM workspaces WHERE id = $1`, ws.String()) != 61 {
		t.Errorf("heartbeat with fractions: %d %s", got.status, got.body)
	}
	full = `{"workspace_id":"` + ws.String() + `","error_rate":0.5,"sample_error":"e","active_tasks":3,"uptime_seconds":7,"current_task":"secret work"}`
	if got := beat(token, full); got.status != 200 {
		t.Errorf("full heartbeat: %d %s", got.status, got.body)
	}
	shown := w.do("GET", "/workspaces/"+ws.String(), "", nil)
	if !strings.Contains(shown.body, `"active_tasks":3`) || strings.Contains(shown.body, "secret work") || strings.Contains(shown.body, "inbound_secret") {
		t.Errorf("public view: %s", shown.body)
	}
	for _, id := range []string{newWorkspaceID(t).String(), strings.ToUpper(newWorkspaceID(t).String())} {
		if got := beat("", `{"workspace_id":"`+id+`"}`); got.body != `{"status":"ok","generation":0}` {
			t.Errorf("unknown id: %d %s", got.status, got.body)
		}
	}
	beat("", `{"workspace_id":"`+ws.String()+`"}`).want(t, 401, "missing workspace auth token")
	for _, bad := range []string{`{}`, `[]`, `{"workspace_id":7}`, `{"workspace_id":"x"}`, `{"workspace_id":"` + ws.String() + `","active_tasks":"3"}`,
		`{"workspace_id":"` + ws.String() + `","active_tasks":99999999999}`, `{"workspace_id":"` + ws.String() + `","current_task":"\u0000"}`} {
		beat(token, bad).want(t, 400, "invalid request body")
	}
	if _, err := w.workspaces.Remove(t.Context(), ws, metadata.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := beat(token, `{"workspace_id":"`+ws.String()+`"}`); got.body != `{"status":"ok","generation":0}` {
		t.Errorf("removed workspace: %d %s", got.status, got.body)
	}
}

// Where registration is closed, a workspace without a live instance token must
// not hand its inbound secret to whoever sends a heartbeat in its name.
func TestHeartbeatOfAnOwnerlessWorkspaceWhereRegistrationIsClosed(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, _, err := w.workspaces.Create(t.Context(), metadata.NewWorkspace{}, "")
	if err != nil {
		t.Fatal(err)
	}
	body := `{"workspace_id":"` + ws.ID.String() + `"}`
	w.postJSON("/registry/heartbeat", "", body).want(t, 401, "missing workspace auth token")
	w.postJSON("/registry/heartbeat", "x", body).want(t, 401, "invalid workspace auth token")
	if got := w.postJSON("/registry/heartbeat", adminToken, body); got.status != 200 {
		t.Errorf("admin: %d %s", got.status, got.body)
	}
}

func TestHeartbeatDatabaseFailure(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	w.exec(`ALTER TABLE workspaces RENAME COLUMN uptime_seconds TO hidden`)
	w.postJSON("/registry/heartbeat", token, `{"workspace_id":"`+ws.String()+`"}`).want(t, 500, "failed to update")
}

func TestUpdateCard(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	if got := w.postJSON("/registry/update-card", token, `{"workspace_id":"`+ws.String()+`","agent_card":{"name":"n","list":[1, 2]}}`); got.body != `{"status":"updated"}` {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := w.do("GET", "/workspaces/"+ws.String(), "", nil); !strings.Contains(got.body, `"list":[1,2]`) {
		t.Errorf("card is not there or not compact: %s", got.body)
	}
	for _, bad := range []string{`{}`, `{"workspace_id":"` + ws.String() + `"}`, `{"workspace_id":"` + ws.String() + `","agent_card":[]}`, `{"workspace_id":"x","agent_card":{}}`} {
		w.postJSON("/registry/update-card", token, bad).want(t, 400, "invalid request body")
	}
	w.postJSON("/registry/update-card", adminToken, `{"workspace_id":"`+newWorkspaceID(t).String()+`","agent_card":{}}`).want(t, 404, "workspace not found")
}

func TestPeersAndDiscover(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	parent, parentToken := w.workspace("poll")
	child, childToken := w.workspace("poll")
	stranger, _ := w.workspace("poll")
	if _, err := w.workspaces.Reparent(t.Context(), child, &parent); err != nil {
		t.Fatal(err)
	}
	var peers []struct {
		ID string `json:"id"`
	}
	w.do("GET", "/registry/"+child.String()+"/peers", childToken, nil).json(t, &peers)
	if len(peers) != 1 || peers[0].ID != parent.String() {
		t.Errorf("peers %v, want the parent", peers)
	}
	if got := w.do("GET", "/registry/"+stranger.String()+"/peers", adminToken, nil); got.body != "[]" {
		t.Errorf("peers of a lone root: %d %s", got.status, got.body)
	}
	w.do("GET", "/registry/"+newWorkspaceID(t).String()+"/peers", adminToken, nil).want(t, 404, "workspace not found")

	as := func(ws string) []string { return []string{"X-Workspace-ID", ws} }
	path := "/registry/discover/" + parent.String()
	if got := w.do("GET", path, childToken, nil, as(child.String())...); got.status != 200 || !strings.Contains(got.body, `"id":"`+parent.String()+`"`) {
		t.Errorf("discover: %d %s", got.status, got.body)
	}
	w.do("GET", path, childToken, nil).want(t, 400, "X-Workspace-ID header must be a workspace ID")
	w.do("GET", path, childToken, nil, as("x")...).want(t, 400, "X-Workspace-ID header must be a workspace ID")
	w.do("GET", path, childToken, nil, as(parent.String())...).want(t, 401, "invalid workspace auth token")
	w.do("GET", path, "", nil, as(child.String())...).want(t, 401, "missing workspace auth token")
	w.do("GET", "/registry/discover/"+stranger.String(), parentToken, nil, as(parent.String())...).want(t, 403, "access denied: workspaces cannot communicate per hierarchy rules")
	w.do("GET", "/registry/discover/x", parentToken, nil, as(parent.String())...).want(t, 400, "invalid workspace ID")
	w.do("GET", "/registry/discover/"+newWorkspaceID(t).String(), adminToken, nil, as(parent.String())...).want(t, 404, "workspace not found")
}
