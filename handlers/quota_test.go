package handlers_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// withQuota is a server with a quota, on a database of its own unless one is named.
func withQuota(t *testing.T, q storage.Quota, database string, options ...func(*handlers.Config)) *world {
	t.Helper()
	below := setup{rows: metadata.UploadsConfig{Quota: q}}
	below.feed.database = database
	looks := func(cfg *handlers.Config) { cfg.Quota = cfg.Uploads.(*metadata.Uploads) }
	return newServerWith(t, below, append([]func(*handlers.Config){looks}, options...)...)
}

// wantOverQuota fails unless that is the refusal.
func (w *world) wantOverQuota(got reply, want wire.QuotaExceeded) {
	w.t.Helper()
	got.want(w.t, http.StatusRequestEntityTooLarge, "workspace quota exceeded")
	want.Error, want.Code = "workspace quota exceeded", "quota_exceeded"
	var body wire.QuotaExceeded
	got.json(w.t, &body)
	if diff := cmp.Diff(want, body); diff != "" {
		w.t.Error(diff)
	}
}

// Two uploads that fit one at a time, through two replicas, both durable in S3 and
// both in the transaction that makes them visible: one gets in.
func TestQuotaHoldsForUploadsAtTheSameTime(t *testing.T) {
	t.Parallel()
	quota := storage.Quota{Bytes: 100, Files: 10}
	w := withQuota(t, quota, "")
	other := withQuota(t, quota, w.database)
	ws, token := w.workspace("poll")
	held, err := w.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Whoever has counted goes no further than to the feed.
	if _, err := held.Exec(t.Context(), `LOCK TABLE activity_feeds IN SHARE MODE`); err != nil {
		t.Fatal(err)
	}
	content := strings.Repeat("x", 60)
	body, contentType := multipartBody(t, part{name: "a.txt", content: content})
	replies := make(chan reply, 2)
	for _, replica := range []*world{w, other} {
		go func() {
			got, err := replica.try("POST", uploadPath(ws), token, strings.NewReader(string(body)), "Content-Type", contentType)
			if err != nil {
				t.Error(err)
			}
			replies <- got
		}()
	}
	eventually(t, "both are about to commit", func() bool {
		return w.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 2
	})
	if n := len(w.objectKeys()) + len(other.objectKeys()); n != 2 {
		t.Errorf("%d objects are durable, want 2", n)
	}
	if err := held.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := []reply{<-replies, <-replies}
	slices.SortFunc(got, func(a, b reply) int { return a.status - b.status })
	if got[0].status != http.StatusOK {
		t.Fatalf("%d %s", got[0].status, got[0].body)
	}
	w.wantOverQuota(got[1], wire.QuotaExceeded{UsedBytes: 60, MaxBytes: 100, UsedFiles: 1, MaxFiles: 10})
	staged := stagedFiles(t, got[0])[0]
	keys := append(w.objectKeys(), other.objectKeys()...)
	if want := "t/" + strings.TrimPrefix(staged.URI, "platform-pending:"); !slices.Equal(keys, []string{want}) {
		t.Errorf("objects %v, want %s alone", keys, want)
	}
	if rows, entries := w.count(`SELECT count(*) FROM pending_uploads`), w.count(`SELECT count(*) FROM activity_logs`); rows != 1 || entries != 1 {
		t.Errorf("%d rows, %d feed entries, want 1 each", rows, entries)
	}
}

// A workspace that is full is told so before a body is sent, and has room again
// when it has acked.
func TestFullWorkspaceIsRefusedBeforeTheBody(t *testing.T) {
	t.Parallel()
	w := withQuota(t, storage.Quota{Files: 2}, "")
	ws, token := w.workspace("poll")
	files := w.mustUpload(ws, token, part{name: "a.txt", content: "hello"}, part{name: "b.txt", content: "world!"})
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n", uploadPath(ws), w.addr, token); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil) // "100 Continue" would be one
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	full := wire.QuotaExceeded{UsedBytes: 11, UsedFiles: 2, MaxFiles: 2}
	w.wantOverQuota(reply{resp.StatusCode, resp.Header, string(text)}, full)
	if strings.Contains(string(text), "max_bytes") {
		t.Errorf("%s has a limit that is none", text)
	}
	w.wantOverQuota(w.upload(ws, token, part{name: "c.txt", content: "hello"}), full)
	if n := w.gauge("pendinguploads_quota_refusals_total"); n != 2 {
		t.Errorf("counted %d, want 2", n)
	}
	if lines := w.log.lines("upload above quota of workspace"); len(lines) != 2 || !strings.Contains(lines[0], `"level":"INFO"`) {
		t.Errorf("logged %q, want 2 at info", lines)
	}

	w.do("POST", files[0].path("ack"), token, nil).want(t, http.StatusOK, "")
	w.mustUpload(ws, token, part{name: "c.txt", content: "hello"})
	// One fits no more; two would not have.
	w.do("POST", files[1].path("ack"), token, nil).want(t, http.StatusOK, "")
	w.wantOverQuota(w.upload(ws, token, part{name: "d.txt", content: "hello"}, part{name: "e.txt", content: "hello"}),
		wire.QuotaExceeded{UsedBytes: 5, UsedFiles: 1, MaxFiles: 2})
	if keys := w.objectKeys(); len(keys) != 3 {
		t.Errorf("%d objects, want 3: those of two acked files and one that waits: %v", len(keys), keys)
	}
}

func TestDirectUploadWithinTheQuota(t *testing.T) {
	t.Parallel()
	w := withQuota(t, storage.Quota{Bytes: 10}, "", withDirect(directKey))
	ws, token := w.workspace("poll")
	over := w.postJSON(directPath(ws), token, map[string]any{"files": []askedFile{asked("a.txt", "hello"), asked("b.txt", "world!")}})
	w.wantOverQuota(over, wire.QuotaExceeded{MaxBytes: 10})

	// Both fit when they are reserved; the second is too much when it is committed.
	first, second := w.reserve(ws, token, asked("a.txt", "hello")), w.reserve(ws, token, asked("b.txt", "world!"))
	w.write(first.Files[0], "hello")
	w.write(second.Files[0], "world!")
	commit := func(r reserved) reply { return w.postJSON(directPath(ws)+"/commit", token, r.commit()) }
	staged := commit(first)
	staged.want(t, http.StatusOK, "")
	w.wantOverQuota(commit(second), wire.QuotaExceeded{UsedBytes: 5, MaxBytes: 10, UsedFiles: 1})
	if n := w.count(`SELECT count(*) FROM pending_uploads`); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
	// What is committed stays that, and what is not can be, once there is room.
	if again := commit(first); again.status != http.StatusOK || again.body != staged.body {
		t.Errorf("again: %d %s", again.status, again.body)
	}
	w.do("POST", first.Files[0].path("ack"), token, nil).want(t, http.StatusOK, "")
	commit(second).want(t, http.StatusOK, "")
	if got := w.do("GET", second.Files[0].path("content"), token, nil); got.status != http.StatusOK || got.body != "world!" {
		t.Errorf("content: %d %s", got.status, got.body)
	}
}
