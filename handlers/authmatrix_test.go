package handlers_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// columns are the credentials of the matrix.
var columns = []string{"none", "garbage", "other", "own", "admin", "revoked", "deleted"}

// cell is one call: of a workspace of its own, with one of the credentials.
type cell struct {
	ws         storage.WorkspaceID
	credential string
	token      string
	claimed    string // the workspace that the credential is said to be of
}

// cell makes workspaces and tokens afresh, so that routes that change things do
// not disturb each other.
func (w *world) cell(credential string) cell {
	w.t.Helper()
	ws, own := w.workspace("poll")
	c := cell{ws: ws, credential: credential, claimed: ws.String()}
	switch credential {
	case "garbage":
		c.token = "no-such-token"
	case "other":
		other, token := w.workspace("poll")
		c.token, c.claimed = token, other.String()
	case "own":
		c.token = own
	case "admin":
		c.token = adminToken
	case "revoked":
		secret, tok, err := w.tokens.Mint(w.t.Context(), ws, metadata.TokenAPI)
		if err != nil {
			w.t.Fatal(err)
		}
		if err := w.tokens.Revoke(w.t.Context(), ws, tok.ID); err != nil {
			w.t.Fatal(err)
		}
		c.token = secret
	case "deleted":
		gone, token := w.workspace("poll")
		if _, err := w.workspaces.Remove(w.t.Context(), gone, metadata.RemoveOptions{}); err != nil {
			w.t.Fatal(err)
		}
		c.token, c.claimed = token, gone.String()
	}
	return c
}

// outcome is a reply to a credential: a status, and for refusals the text. 0 is
// any status that is no refusal.
type outcome struct {
	status int
	text   string
}

// Rules of routes with guards, by credential.
var (
	passes        = outcome{}
	missing       = outcome{401, "missing workspace auth token"}
	invalid       = outcome{401, "invalid workspace auth token"}
	workspaceRule = map[string]outcome{"none": missing, "garbage": invalid, "other": invalid, "own": passes, "admin": passes, "revoked": invalid, "deleted": invalid}
	notAdmin      = outcome{401, "invalid admin auth token"}
	adminRule     = map[string]outcome{"none": {401, "admin auth required"}, "garbage": notAdmin, "other": notAdmin, "own": notAdmin, "admin": passes, "revoked": notAdmin, "deleted": notAdmin}
	unsigned      = outcome{403, "invalid or missing signature of the URL"}
	unsignedRule  = map[string]outcome{"none": unsigned, "garbage": unsigned, "other": unsigned, "own": unsigned, "admin": unsigned, "revoked": unsigned, "deleted": unsigned}
	publicRule    = map[string]outcome{"none": passes, "garbage": passes, "other": passes, "own": passes, "admin": passes, "revoked": passes, "deleted": passes}
)

// ownRule is what a route does that has rules of its own.
type ownRule struct {
	body    func(c cell) string
	headers func(c cell) []string
	rule    map[string]outcome
}

func body(format string) func(cell) string {
	return func(c cell) string { return fmt.Sprintf(format, c.ws) }
}

// ownRules has a line for each route whose guard is its own.
var ownRules = map[string]ownRule{
	"POST /registry/register":    {body: body(`{"id":"%s","agent_card":{},"delivery_mode":"poll"}`), rule: workspaceRule},
	"POST /registry/heartbeat":   {body: body(`{"workspace_id":"%s"}`), rule: workspaceRule},
	"POST /registry/update-card": {body: body(`{"workspace_id":"%s","agent_card":{}}`), rule: workspaceRule},
	"GET /registry/discover/{id}": {
		headers: func(c cell) []string { return []string{"X-Workspace-ID", c.ws.String()} },
		rule:    workspaceRule,
	},
	"POST /workspaces/{id}/a2a": {
		body: body(`{"method":"message/send","params":{"message":{"parts":[{"kind":"text","text":"%s"}]}}}`),
		rule: map[string]outcome{
			"none":    {401, "missing caller auth token"},
			"garbage": {401, "invalid caller auth token"},
			"other":   {403, "access denied: workspaces cannot communicate per hierarchy rules"},
			"own":     passes, "admin": passes,
			"revoked": {401, "invalid caller auth token"},
			"deleted": {401, "invalid caller auth token"},
		},
	},
	// Its credential is in the URL, and no other counts.
	"GET /signed-content/{id}/{fid}":  {rule: unsignedRule},
	"HEAD /signed-content/{id}/{fid}": {rule: unsignedRule},
	// Any live workspace may listen, to its own events alone.
	"GET /ws": {rule: map[string]outcome{"none": missing, "garbage": invalid, "other": passes, "own": passes, "admin": passes, "revoked": invalid, "deleted": invalid}},
}

func TestAuthorizationMatrix(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	for _, r := range w.server.Routes() {
		t.Run(r.Method+" "+r.Pattern, func(t *testing.T) {
			rule := ownRule{}
			switch r.Guard {
			case "public":
				rule.rule = publicRule
			case "workspace":
				rule.rule = workspaceRule
			case "admin":
				rule.rule = adminRule
			default:
				var there bool
				if rule, there = ownRules[r.Method+" "+r.Pattern]; !there {
					t.Fatal("no line in ownRules for this route")
				}
			}
			for _, credential := range columns {
				want, there := rule.rule[credential]
				if !there {
					t.Fatalf("no rule for credential %s", credential)
				}
				c := w.cell(credential)
				path := strings.NewReplacer("{id}", c.ws.String(), "{fid}", newWorkspaceID(t).String()).Replace(r.Pattern)
				var text string
				var headers []string
				if rule.body != nil {
					text = rule.body(c)
				}
				if rule.headers != nil {
					headers = rule.headers(c)
				}
				got := w.do(r.Method, path, c.token, strings.NewReader(text), headers...)
				if want == passes {
					if got.status == http.StatusUnauthorized || got.status == http.StatusForbidden || got.status >= 500 {
						t.Errorf("%s: refused with %d %s", credential, got.status, got.body)
					}
					continue
				}
				if r.Method == http.MethodHead {
					if got.status != want.status {
						t.Errorf("%s: %d, want %d", credential, got.status, want.status)
					}
					continue
				}
				if got.status != want.status || got.errorText(t) != want.text {
					t.Errorf("%s: %d %s, want %d %q", credential, got.status, got.body, want.status, want.text)
				}
			}
		})
	}
}

func TestGuardsFailClosed(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	feed := "/workspaces/" + ws.String() + "/activity"
	for _, header := range []string{"bearer " + token, "BEARER " + token, "Basic " + token, token, "Bearer", "Bearer   ", "Bearer" + token} {
		w.do("GET", feed, "", nil, "Authorization", header).want(t, 401, "missing workspace auth token")
	}
	if got := w.do("GET", feed, "", nil, "Authorization", "Bearer   "+token+"  "); got.status != 200 {
		t.Errorf("a token with blanks around it: %d", got.status)
	}
	w.do("GET", "/workspaces", "", nil).want(t, 401, "admin auth required")
	w.do("GET", "/workspaces", adminToken+"x", nil).want(t, 401, "invalid admin auth token")
}

func TestNoAdminTokenMeansNoAdmin(t *testing.T) {
	t.Parallel()
	w := newServer(t, withoutAdmin)
	ws, token := w.workspace("poll")
	w.do("GET", "/workspaces", "", nil).want(t, 401, "admin auth required")
	w.do("GET", "/workspaces", token, nil).want(t, 401, "invalid admin auth token")
	w.do("GET", "/workspaces/"+ws.String()+"/activity", adminToken, nil).want(t, 401, "invalid workspace auth token")
}

func TestUnreachableTokenStoreIs503(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	w.pool.Close()
	got := w.do("GET", "/workspaces/"+ws.String()+"/activity", token, nil)
	got.want(t, 503, "platform datastore unavailable — retry shortly")
	if !strings.Contains(got.body, `"code":"platform_unavailable"`) {
		t.Errorf("body %s", got.body)
	}
	w.do("POST", uploadPath(ws), adminToken, nil).want(t, 500, "delivery_mode lookup failed")
}

func TestTokenUseIsRecorded(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	w.feed(ws, token, "")
	if n := w.count(`SELECT count(*) FROM workspace_auth_tokens WHERE last_used_at IS NOT NULL`); n != 1 {
		t.Error("last_used_at is not set")
	}
}
