package handlers_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/internal/signing"
	"github.com/molecule-ai/pendinguploads/storage"
)

// withDirect lets files be written to the object store; the token's keys are the
// given ones.
func withDirect(keys string) func(*handlers.Config) {
	return func(cfg *handlers.Config) {
		cfg.Direct = cfg.Storage.(storage.Direct)
		cfg.SigningKeys = keys
	}
}

var directKey = strings.Repeat("5f", 32)

func directPath(ws storage.WorkspaceID) string {
	return uploadPath(ws) + "/direct"
}

// directFile is one element of the reply to a reservation.
type directFile struct {
	staged
	FileID  string            `json:"file_id"`
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
}

type reserved struct {
	Files       []directFile `json:"files"`
	CommitToken string       `json:"commit_token"`
	ExpiresAt   time.Time    `json:"expires_at"`
}

func (r reserved) commit() map[string]string { return map[string]string{"commit_token": r.CommitToken} }

type askedFile map[string]any

func asked(name, content string) askedFile {
	digest := sha256.Sum256([]byte(content))
	return askedFile{"name": name, "size": len(content), "mimeType": "text/plain; charset=utf-8", "sha256": hex.EncodeToString(digest[:])}
}

func (w *world) reserve(ws storage.WorkspaceID, token string, files ...askedFile) reserved {
	w.t.Helper()
	got := w.postJSON(directPath(ws), token, map[string]any{"files": files})
	if got.status != http.StatusOK {
		w.t.Fatalf("reserve: %d %s", got.status, got.body)
	}
	if got.header.Get("Cache-Control") != "no-store" {
		w.t.Errorf("Cache-Control of URLs is %q", got.header.Get("Cache-Control"))
	}
	var r reserved
	got.json(w.t, &r)
	return r
}

// write sends a file to the object store.
func (w *world) write(f directFile, content string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), f.Method, f.URL, strings.NewReader(content))
	if err != nil {
		w.t.Fatal(err)
	}
	for name, value := range f.Headers {
		req.Header.Set(name, value)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		w.t.Fatalf("put: status %d", resp.StatusCode)
	}
}

func TestDirectUploadFeedContentAck(t *testing.T) {
	t.Parallel()
	w := newServer(t, withDirect(""))
	ws, token := w.workspace("poll")
	const name = "dir/a ü 中文.txt"
	inBase64 := asked(name, "hello")
	digest := sha256.Sum256([]byte("hello"))
	inBase64["sha256"] = base64.StdEncoding.EncodeToString(digest[:])
	untyped := asked("b.bin", "world!")
	delete(untyped, "mimeType")
	r := w.reserve(ws, token, inBase64, untyped)
	if left := time.Until(r.ExpiresAt); left > handlers.DefaultDirectTTL || left < handlers.DefaultDirectTTL-time.Minute {
		t.Errorf("it lives for %v", left)
	}
	for i, f := range r.Files {
		if f.Headers["X-Amz-Checksum-Sha256"] == "" || f.Headers["Content-Length"] != fmt.Sprint(f.Size) || f.Method != "PUT" {
			t.Errorf("file %d: %s with %v", i, f.Method, f.Headers)
		}
		if f.URI != "platform-pending:"+ws.String()+"/"+f.FileID {
			t.Errorf("file %d: %s, %s", i, f.URI, f.FileID)
		}
	}
	w.write(r.Files[0], "hello")
	w.write(r.Files[1], "world!")
	w.do("GET", r.Files[0].path("content"), token, nil).want(t, 404, "pending upload not found, expired, or already acked")
	if n := len(w.feed(ws, token, "")); n != 0 {
		t.Errorf("%d feed rows before the commit", n)
	}

	got := w.postJSON(directPath(ws)+"/commit", token, r.commit())
	if got.status != http.StatusOK {
		t.Fatalf("commit: %d %s", got.status, got.body)
	}
	// The reply, the rows and the feed are those of the multipart route.
	other, otherToken := w.workspace("poll")
	want := w.mustUpload(other, otherToken,
		part{name: name, mimeType: "text/plain; charset=utf-8", content: "hello"}, part{name: "b.bin", content: "world!"})
	for i := range want {
		want[i].URI = r.Files[i].URI
	}
	if diff := cmp.Diff(want, stagedFiles(t, got)); diff != "" {
		t.Errorf("reply (-multipart +direct):\n%s", diff)
	}
	manifests := func(ws storage.WorkspaceID, token string) (all []map[string]any) {
		for _, row := range w.feed(ws, token, "") {
			body := row["request_body"].(map[string]any)
			delete(body, "file_id")
			delete(body, "uri")
			all = append(all, map[string]any{"body": body, "method": row["method"], "summary": row["summary"], "type": row["activity_type"]})
		}
		return all
	}
	if diff := cmp.Diff(manifests(other, otherToken), manifests(ws, token)); diff != "" {
		t.Errorf("feed (-multipart +direct):\n%s", diff)
	}
	content := w.do("GET", r.Files[0].path("content"), token, nil)
	if content.status != http.StatusOK || content.body != "hello" || content.header.Get("ETag") != `"`+hex.EncodeToString(digest[:])+`"` {
		t.Errorf("content: %d %q, tag %s", content.status, content.body, content.header.Get("ETag"))
	}
	if got := w.do("POST", r.Files[0].path("ack"), token, strings.NewReader("")); got.body != `{"acked":true}` {
		t.Errorf("ack: %s", got.body)
	}
	for _, secret := range []string{"X-Amz-Signature", r.CommitToken, r.CommitToken[len(r.CommitToken)-20:], token} {
		if strings.Contains(w.log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

func TestDirectReservationsApplyTheRulesOfUploads(t *testing.T) {
	t.Parallel()
	limits := storage.Limits{MaxFileBytes: 1000, MaxRequestBytes: 1100}
	w := newServerWith(t, setup{limits: limits}, withDirect(""))
	ws, token := w.workspace("poll")
	with := func(key string, value any) []askedFile {
		f := asked("bad name.txt", "hello")
		f[key] = value
		return []askedFile{asked("a", "x"), f}
	}
	many := make([]askedFile, 65)
	for i := range many {
		many[i] = asked("a", strings.Repeat("x", 1000))
	}
	for name, c := range map[string]struct {
		body   any
		status int
		text   string
		more   string // in the reply
	}{
		"no JSON":      {"x", 400, "invalid request body", ""},
		"another":      {"[]", 400, "invalid request body", ""},
		"no files":     {map[string]any{"files": []askedFile{}}, 400, "no files field in request", ""},
		"no key":       {"{}", 400, "no files field in request", ""},
		"too many":     {map[string]any{"files": many}, 400, "too many files (limit 64)", ""},
		"empty":        {map[string]any{"files": with("size", 0)}, 400, "file is empty", `"filename":"bad name.txt"`},
		"negative":     {map[string]any{"files": with("size", -5)}, 400, "file is empty", `"filename":"bad name.txt"`},
		"too large":    {map[string]any{"files": with("size", 1001)}, 413, "file exceeds per-file cap", `"filename":"bad name.txt","size":1001,"max":1000`},
		"size as text": {map[string]any{"files": with("size", "5")}, 400, "invalid request body", ""},
		"no name":      {map[string]any{"files": with("name", "")}, 400, "file name is required", `"index":1`},
		"no digest":    {map[string]any{"files": with("sha256", "")}, 400, "sha256 must be 64 hex digits or the base64 of 32 bytes", `"filename":"bad name.txt"`},
		"short digest": {map[string]any{"files": with("sha256", strings.Repeat("a", 63))}, 400, "sha256 must be 64 hex digits or the base64 of 32 bytes", ""},
		"zero digest":  {map[string]any{"files": with("sha256", strings.Repeat("0", 64))}, 400, "sha256 must be 64 hex digits or the base64 of 32 bytes", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := w.postJSON(directPath(ws), token, c.body)
			got.want(t, c.status, c.text)
			if !strings.Contains(got.body, c.more) {
				t.Errorf("%s lacks %s", got.body, c.more)
			}
		})
	}
	// 64 files of exactly the cap, far above the cap of a request: their bytes do
	// not come through here.
	r := w.reserve(ws, token, many[:64]...)
	if len(r.Files) != 64 {
		t.Errorf("%d files", len(r.Files))
	}
	// Types and names are reduced like those of a form.
	f := asked("../../x/é.html", "x")
	f["mimeType"] = "text/html\r\nX-Evil: 1"
	if got := w.reserve(ws, token, f).Files[0]; got.Name != "_.html" || *got.MIMEType != "application/octet-stream" || got.Headers["Content-Type"] != "application/octet-stream" {
		t.Errorf("%+v", got)
	}
	f["mimeType"] = "text/" + strings.Repeat("x", 300)
	if got := w.reserve(ws, token, f).Files[0]; *got.MIMEType != "application/octet-stream" {
		t.Errorf("a type of 305 bytes became %q", *got.MIMEType)
	}
	w.wantNothingStaged()
}

func TestDirectUploadSaysWhereThereIsNone(t *testing.T) {
	t.Parallel()
	const text = "direct upload is not available here: use POST /workspaces/{id}/chat/uploads"
	w, without := newServer(t, withDirect("")), newServer(t)
	body := map[string]any{"files": []askedFile{asked("a", "x")}}
	for _, mode := range []string{"push", ""} {
		ws, token := w.workspace(mode)
		got := w.postJSON(directPath(ws), token, body)
		got.want(t, 422, text)
		if !strings.Contains(got.body, `"code":"direct_unavailable"`) {
			t.Errorf("%s has no code", got.body)
		}
		w.postJSON(directPath(ws)+"/commit", token, map[string]string{"commit_token": "x"}).want(t, 422, text)
	}
	ws, token := without.workspace("poll")
	without.postJSON(directPath(ws), token, body).want(t, 422, text)
	without.postJSON(directPath(ws)+"/commit", token, map[string]string{"commit_token": "x"}).want(t, 422, text)
	w.postJSON(directPath(newWorkspaceID(t)), adminToken, body).want(t, 404, "workspace not found")
}

// resign changes a token's payload and signs it with a key.
func resign(t *testing.T, token, key string, change func(map[string]any)) string {
	t.Helper()
	body, _, _ := strings.Cut(token, ".")
	payload, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		t.Fatal(err)
	}
	var r map[string]any
	if err := json.Unmarshal(payload, &r); err != nil {
		t.Fatal(err)
	}
	change(r)
	if payload, err = json.Marshal(r); err != nil {
		t.Fatal(err)
	}
	keys, err := signing.Parse(key)
	if err != nil {
		t.Fatal(err)
	}
	return keys.Sign("commit of a direct upload", payload)
}

func TestCommitTokensAreOurOwnOfThisWorkspaceAndInTime(t *testing.T) {
	t.Parallel()
	old := strings.Repeat("a0", 32)
	w := newServer(t, withDirect(directKey+","+old))
	ws, token := w.workspace("poll")
	other, otherToken := w.workspace("poll")
	r := w.reserve(ws, token, asked("a", "hello"))
	w.write(r.Files[0], "hello")
	commit := func(ws storage.WorkspaceID, bearer, commitToken string) reply {
		return w.postJSON(directPath(ws)+"/commit", bearer, map[string]string{"commit_token": commitToken})
	}
	// Any change at all.
	for i := range len(r.CommitToken) {
		changed := []byte(r.CommitToken)
		changed[i] ^= 1
		if got := commit(ws, token, string(changed)); got.status != http.StatusBadRequest {
			t.Fatalf("byte %d changed: %d %s", i, got.status, got.body)
		}
	}
	later := func(r map[string]any) { r["e"] = time.Now().Add(time.Hour).Unix() }
	expired := func(r map[string]any) { r["e"] = time.Now().Unix() }
	keys, err := signing.Parse(directKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		got    reply
		status int
		text   string
	}{
		"nothing":           {commit(ws, token, ""), 400, "invalid commit_token"},
		"no key":            {w.postJSON(directPath(ws)+"/commit", token, "{}"), 400, "invalid commit_token"},
		"no JSON":           {w.postJSON(directPath(ws)+"/commit", token, "x"), 400, "invalid request body"},
		"another key":       {commit(ws, token, resign(t, r.CommitToken, strings.Repeat("01", 32), later)), 400, "invalid commit_token"},
		"another purpose":   {commit(ws, token, keys.Sign("another", []byte(`{}`))), 400, "invalid commit_token"},
		"another workspace": {commit(other, otherToken, r.CommitToken), 403, "commit_token belongs to another workspace"},
		"its administrator": {commit(other, adminToken, r.CommitToken), 403, "commit_token belongs to another workspace"},
		"another's bearer":  {commit(ws, otherToken, r.CommitToken), 401, "invalid workspace auth token"},
		"expired":           {commit(ws, token, resign(t, r.CommitToken, directKey, expired)), 410, "commit_token has expired: start the upload again"},
	} {
		t.Run(name, func(t *testing.T) { c.got.want(t, c.status, c.text) })
	}
	if n := w.count(`SELECT count(*) FROM pending_uploads`); n != 0 {
		t.Fatalf("%d rows", n)
	}
	// What the key before signed is good; and whoever committed in time may ask again
	// afterwards.
	first := commit(ws, token, resign(t, r.CommitToken, old, later))
	again := commit(ws, token, resign(t, r.CommitToken, directKey, expired))
	if first.status != http.StatusOK || again.status != http.StatusOK || first.body != again.body {
		t.Errorf("%d %s, then %d %s", first.status, first.body, again.status, again.body)
	}
	if n := w.count(`SELECT count(*) FROM activity_logs`); n != 1 {
		t.Errorf("%d feed entries", n)
	}
}
