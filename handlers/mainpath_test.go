package handlers_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/metadata"
)

// feed asks for the workspace's activity and returns the rows.
func (w *world) feed(ws interface{ String() string }, token, query string) []map[string]any {
	w.t.Helper()
	got := w.do("GET", "/workspaces/"+ws.String()+"/activity"+query, token, nil)
	if got.status != http.StatusOK {
		w.t.Fatalf("feed: %d %s", got.status, got.body)
	}
	var rows []map[string]any
	got.json(w.t, &rows)
	return rows
}

func TestUploadFeedContentAck(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	big := strings.Repeat("0123456789abcdef", 6<<16) // 6 MiB: more than one S3 part
	got := w.upload(ws, token,
		part{name: "alpha.txt", mimeType: "text/plain; charset=utf-8", content: "hello"},
		part{disposition: `form-data; name="note"`, content: "not a file"}, // ignored
		part{name: "big one.bin", content: big},
	)
	if got.status != http.StatusOK {
		t.Fatalf("upload: %d %s", got.status, got.body)
	}
	files := stagedFiles(t, got)
	text, none := "text/plain", ""
	want := []staged{
		{URI: files[0].URI, Name: "alpha.txt", MIMEType: &text, Size: 5},
		{URI: files[1].URI, Name: "big_one.bin", MIMEType: &none, Size: int64(len(big))},
	}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("upload reply (-want +got):\n%s", diff)
	}

	rows := w.feed(ws, token, "?type=a2a_receive&since_secs=600")
	if len(rows) != 2 {
		t.Fatalf("%d feed rows, want 2: %v", len(rows), rows)
	}
	for i, row := range []map[string]any{rows[1], rows[0]} { // newest first
		f := files[i]
		wantBody := map[string]any{"file_id": f.URI[len(f.URI)-36:], "name": f.Name, "mimeType": *f.MIMEType, "size": float64(f.Size), "uri": f.URI}
		if diff := cmp.Diff(wantBody, row["request_body"]); diff != "" {
			t.Errorf("manifest of file %d (-want +got):\n%s", i, diff)
		}
		wantRow := map[string]any{
			"workspace_id": ws.String(), "activity_type": "a2a_receive", "method": "chat_upload_receive",
			"source_id": nil, "target_id": ws.String(), "summary": "chat_upload_receive: " + f.Name,
			"status": "ok", "duration_ms": nil, "error_detail": nil, "seq": float64(i + 1),
		}
		for key, want := range wantRow {
			if got, there := row[key]; !there || got != want {
				t.Errorf("row %d: %s is %v, want %v", i, key, got, want)
			}
		}
		for _, key := range []string{"response_body", "tool_trace", "peer_name", "attachments"} {
			if _, there := row[key]; there {
				t.Errorf("row %d has a %s", i, key)
			}
		}
	}

	content := w.do("GET", files[0].path("content"), token, nil)
	if content.status != http.StatusOK || content.body != "hello" {
		t.Fatalf("content: %d %q", content.status, content.body)
	}
	for key, want := range map[string]string{
		"Content-Type":           "text/plain",
		"Content-Length":         "5",
		"Content-Disposition":    `attachment; filename="alpha.txt"; filename*=UTF-8''alpha.txt`,
		"X-Content-Type-Options": "nosniff",
	} {
		if got := content.header.Get(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	again := w.do("GET", files[0].path("content"), token, nil)
	if again.body != content.body {
		t.Error("the second fetch differs from the first")
	}
	bigContent := w.do("GET", files[1].path("content"), token, nil)
	if sha256.Sum256([]byte(bigContent.body)) != sha256.Sum256([]byte(big)) || bigContent.header.Get("Content-Type") != "application/octet-stream" {
		t.Error("the big file came back changed")
	}
	eventually(t, "both files are stamped as fetched", func() bool {
		return w.count(`SELECT count(*) FROM pending_uploads WHERE fetched_at IS NOT NULL`) == 2
	})

	for i, want := range []string{`{"acked":true}`, `{"acked":true}`} { // twice
		if got := w.do("POST", files[0].path("ack"), token, strings.NewReader("any body")); got.status != http.StatusOK || got.body != want {
			t.Errorf("ack %d: %d %s", i, got.status, got.body)
		}
	}
	w.do("GET", files[0].path("content"), token, nil).want(t, 404, "pending upload not found, expired, or already acked")

	for _, msg := range []string{"upload staged", "upload acknowledged"} {
		lines := w.log.lines(msg)
		if len(lines) != 2 {
			t.Errorf("%d log lines %q, want 2", len(lines), msg)
			continue
		}
		for _, wanted := range []string{ws.String(), files[0].URI[len(files[0].URI)-36:], `"size":5`, `"mime_type":"text/plain"`, `"filename":"alpha.txt"`} {
			if !strings.Contains(lines[0], wanted) {
				t.Errorf("log line %q lacks %s: %s", msg, wanted, lines[0])
			}
		}
	}
	if logged := w.log.String(); strings.Contains(logged, token) || strings.Contains(logged, "hello") {
		t.Error("the log holds a token or content")
	}
	hash := sha256.Sum256([]byte("hello"))
	if n := w.count(`SELECT count(*) FROM pending_uploads WHERE encode(sha256, 'hex') = $1`, hex.EncodeToString(hash[:])); n != 1 {
		t.Error("the row's digest is not the content's")
	}
}

func TestReadAfterAckKeepsContentAndChangesTheText(t *testing.T) {
	t.Parallel()
	w := newServerWith(t, setup{rows: metadata.UploadsConfig{ReadAfterAck: true}})
	ws, token := w.workspace("poll")
	f := w.mustUpload(ws, token, part{name: "a.txt", content: "x"})[0]
	if got := w.do("POST", f.path("ack"), token, nil); got.body != `{"acked":true}` {
		t.Fatalf("ack: %s", got.body)
	}
	if got := w.do("GET", f.path("content"), token, nil); got.status != 200 || got.body != "x" {
		t.Errorf("content after ack: %d %s", got.status, got.body)
	}
	gone := strings.Replace(f.path("content"), f.URI[len(f.URI)-36:], newWorkspaceID(t).String(), 1)
	w.do("GET", gone, token, nil).want(t, 404, "pending upload not found or expired")
	w.do("POST", strings.Replace(gone, "/content", "/ack", 1), token, nil).want(t, 404, "pending upload not found, expired, or already acked")
}

func TestAnotherWorkspacesFileIs404BeforeAnyStateChange(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	a, tokenA := w.workspace("poll")
	b, tokenB := w.workspace("poll")
	f := w.mustUpload(a, tokenA, part{name: "a.txt", content: "secret"})[0]
	foreign := strings.Replace(f.path(""), a.String(), b.String(), 1)
	w.do("GET", foreign+"content", tokenB, nil).want(t, 404, "pending upload not found")
	w.do("POST", foreign+"ack", tokenB, nil).want(t, 404, "pending upload not found")
	w.do("GET", f.path("content"), tokenB, nil).want(t, 401, "invalid workspace auth token")
	if n := w.count(`SELECT count(*) FROM pending_uploads WHERE acked_at IS NOT NULL OR fetched_at IS NOT NULL`); n != 0 {
		t.Error("a foreign call changed the row")
	}
	lines := w.log.lines("workspace mismatch")
	if len(lines) != 2 || !strings.Contains(lines[0], a.String()) || !strings.Contains(lines[0], b.String()) {
		t.Errorf("workspace mismatch is not on record: %v", lines)
	}
}

func TestIDsInAnySpellingAndURIsInCanonicalOne(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	shouted := strings.ToUpper(ws.String())
	body, contentType := multipartBody(t, part{name: "a.txt", content: "x"})
	got := w.do("POST", "/workspaces/"+shouted+"/chat/uploads", token, strings.NewReader(string(body)), "Content-Type", contentType)
	if got.status != 200 || !strings.Contains(got.body, "platform-pending:"+ws.String()+"/") {
		t.Errorf("upload to an upper-case id: %d %s", got.status, got.body)
	}
	w.do("GET", "/workspaces/nonsense/pending-uploads/nonsense/content", token, nil).want(t, 401, "invalid workspace auth token")
	w.do("GET", "/workspaces/nonsense/pending-uploads/nonsense/content", adminToken, nil).want(t, 400, "invalid workspace ID")
	w.do("GET", "/workspaces/"+ws.String()+"/pending-uploads/nonsense/content", token, nil).want(t, 400, "invalid file_id")
	w.do("POST", "/workspaces/"+ws.String()+"/pending-uploads/nonsense/ack", token, nil).want(t, 400, "invalid file_id")
	w.do("POST", "/workspaces/nonsense/chat/uploads", adminToken, nil).want(t, 400, "invalid workspace ID")
	w.do("POST", uploadPath(newWorkspaceID(t)), adminToken, nil).want(t, 404, "workspace not found")
}

func TestHeadOfContentHasTheHeadersAlone(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	f := w.mustUpload(ws, token, part{name: "a.txt", content: "four"})[0]
	got := w.do("HEAD", f.path("content"), token, nil)
	if got.status != 200 || got.header.Get("Content-Length") != "4" || got.body != "" {
		t.Errorf("HEAD: %d %v %q", got.status, got.header, got.body)
	}
	if n := w.count(`SELECT count(*) FROM pending_uploads WHERE fetched_at IS NOT NULL`); n != 0 {
		t.Error("HEAD counts as a fetch")
	}
}

func TestServiceRoutes(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	if got := w.do("GET", "/health", "", nil); got.body != `{"status":"ok"}` {
		t.Errorf("health: %s", got.body)
	}
	if got := w.do("GET", "/uploads/limits", "", nil); got.body != `{"per_file_bytes":26214400,"per_request_bytes":52428800,"max_attachments_per_message":10}` {
		t.Errorf("limits: %s", got.body)
	}
	if got := w.do("GET", "/buildinfo", "", nil); got.status != 200 || !strings.Contains(got.body, `"go_version":"go`) {
		t.Errorf("buildinfo: %s", got.body)
	}
	w.do("GET", "/nowhere", "", nil).want(t, 404, "not found")
	ws, token := w.workspace("poll")
	w.feed(ws, token, "")
	got := w.do("GET", "/metrics", "", nil, "Accept", "application/openmetrics-text;version=1.0.0", "Accept-Encoding", "gzip")
	if ct := got.header.Get("Content-Type"); ct != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("Content-Type of metrics is %q", ct)
	}
	for _, want := range []string{
		`molecule_http_requests_total{method="GET",path="/health",status="200"} 1`,
		`molecule_http_requests_total{method="GET",path="/workspaces/:id/activity",status="200"} 1`,
		`molecule_http_requests_total{method="GET",path="unmatched",status="404"} 1`,
		`molecule_http_request_duration_seconds_total{method="GET",path="/health",status="200"} `,
		`molecule_websocket_connections_active 0`,
	} {
		if !strings.Contains(got.body, want) {
			t.Errorf("metrics lack %s in\n%s", want, got.body)
		}
	}
}
