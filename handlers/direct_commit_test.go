package handlers_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/blob/s3blob"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

func TestDirectCommitSaysWhatIsMissingOrWrong(t *testing.T) {
	t.Parallel()
	w := newServer(t, withDirect(directKey))
	ws, token := w.workspace("poll")
	r := w.reserve(ws, token, asked("a.txt", "hello"), asked("b.txt", "world"))
	commit := func() reply { return w.postJSON(directPath(ws)+"/commit", token, r.commit()) }
	w.write(r.Files[0], "hello")
	got := commit()
	got.want(t, 409, "file not uploaded")
	if !strings.Contains(got.body, `"filename":"b.txt","file_id":"`+r.Files[1].FileID+`"`) {
		t.Errorf("%s does not name the file", got.body)
	}
	// As if the store had not compared.
	w.write(r.Files[1], "world")
	token2 := resign(t, r.CommitToken, directKey, func(r map[string]any) {
		digest := sha256.Sum256([]byte("WORLD"))
		r["f"].([]any)[1].(map[string]any)["h"] = base64.StdEncoding.EncodeToString(digest[:])
	})
	got = w.postJSON(directPath(ws)+"/commit", token, map[string]string{"commit_token": token2})
	got.want(t, 409, "content mismatch")
	if !strings.Contains(got.body, `"filename":"b.txt"`) || len(w.feed(ws, token, "")) != 0 {
		t.Errorf("%s, feed %v", got.body, w.feed(ws, token, ""))
	}

	// Committed, again, acked, again, gone.
	first := commit()
	if first.status != http.StatusOK {
		t.Fatalf("commit: %d %s", first.status, first.body)
	}
	for i, f := range r.Files {
		if again := commit(); again.status != http.StatusOK || again.body != first.body {
			t.Errorf("after %d acks: %d %s", i, again.status, again.body)
		}
		w.do("POST", f.path("ack"), token, nil)
	}
	sweep, err := w.store.Sweep(t.Context(), -time.Second, 10)
	if err != nil || sweep.Acked != 2 {
		t.Fatal(sweep, err)
	}
	got = commit()
	got.want(t, 410, "files were committed before, and some are acked or expired and gone")
	if !strings.Contains(got.body, `"code":"direct_committed"`) {
		t.Errorf("%s has no code", got.body)
	}
	if n := w.count(`SELECT count(*) FROM activity_logs`); n != 2 {
		t.Errorf("%d feed entries, want 2", n)
	}

	// A workspace that is gone meanwhile.
	r = w.reserve(ws, token, asked("c.txt", "hello"))
	w.write(r.Files[0], "hello")
	if _, err := w.workspaces.Remove(t.Context(), ws, metadata.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	w.postJSON(directPath(ws)+"/commit", adminToken, r.commit()).want(t, 404, "workspace not found")
}

// Whoever lost the answer to a commit asks again when the token has ended, and is
// not sent to upload anew what was taken. Nor is he while nobody can tell.
func TestDirectCommitRepeatedAfterItsEndIsToldWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	const (
		gone    = "files were committed before, and some are acked or expired and gone"
		expired = "commit_token has expired: start the upload again"
		failed  = "could not stage files"
	)
	w := newServer(t, withDirect(directKey))
	ws, token := w.workspace("poll")
	staged := func(names ...string) reserved {
		var files []askedFile
		for _, name := range names {
			files = append(files, asked(name, "hello"))
		}
		r := w.reserve(ws, token, files...)
		for _, f := range r.Files {
			w.write(f, "hello")
		}
		if got := w.postJSON(directPath(ws)+"/commit", token, r.commit()); got.status != http.StatusOK {
			t.Fatalf("commit: %d %s", got.status, got.body)
		}
		return r
	}
	again := func(r reserved) reply {
		late := resign(t, r.CommitToken, directKey, func(r map[string]any) { r["e"] = time.Now().Unix() })
		return w.postJSON(directPath(ws)+"/commit", token, map[string]string{"commit_token": late})
	}
	sweep := func() {
		t.Helper()
		if _, err := w.store.Sweep(t.Context(), -time.Second, 10); err != nil {
			t.Fatal(err)
		}
	}

	r := staged("a.txt", "b.txt")
	w.do("POST", r.Files[0].path("ack"), token, nil)
	if got := again(r); got.status != http.StatusOK {
		t.Errorf("one of two acked: %d %s", got.status, got.body)
	}
	sweep()
	again(r).want(t, 410, gone)
	w.do("POST", r.Files[1].path("ack"), token, nil)
	sweep()
	got := again(r)
	got.want(t, 410, gone)
	if !strings.Contains(got.body, `"code":"direct_committed"`) {
		t.Errorf("%s has no code", got.body)
	}
	r = staged("c.txt")
	w.exec(`UPDATE pending_uploads SET expires_at = now()`)
	again(r).want(t, 410, gone)

	// The workspace has turned to push mode, or no direct uploads are taken any more.
	r, mode := staged("f.txt"), func(m string) { w.exec(`UPDATE workspaces SET delivery_mode = $1`, m) }
	first, turned := w.postJSON(directPath(ws)+"/commit", token, r.commit()), w.reserve(ws, token, asked("g.txt", "hello"))
	w.write(turned.Files[0], "hello")
	mode("push")
	if got := w.postJSON(directPath(ws)+"/commit", token, r.commit()); got.status != http.StatusOK || got.body != first.body {
		t.Errorf("in push mode: %d %s, want %s", got.status, got.body, first.body)
	}
	w.postJSON(directPath(ws)+"/commit", token, turned.commit()).want(t, 422, "direct upload is not available here: use POST /workspaces/{id}/chat/uploads")
	w.do("POST", r.Files[0].path("ack"), token, nil)
	sweep()
	w.postJSON(directPath(ws)+"/commit", token, r.commit()).want(t, 410, gone)
	mode("poll")

	never := w.reserve(ws, token, asked("d.txt", "hello"))
	again(never).want(t, 410, expired)
	w.write(never.Files[0], "hello")
	again(never).want(t, 410, expired)
	unwritten := w.reserve(ws, token, asked("e.txt", "hello"))
	w.postJSON(directPath(ws)+"/commit", token, unwritten.commit()).want(t, 409, "file not uploaded")

	// The feed cannot be read: what was never committed looks like what is gone.
	w.exec(`ALTER TABLE activity_logs RENAME TO elsewhere`)
	again(r).want(t, 500, failed)
	again(never).want(t, 500, failed)
	w.postJSON(directPath(ws)+"/commit", token, unwritten.commit()).want(t, 500, failed)
	w.exec(`ALTER TABLE elsewhere RENAME TO activity_logs`)
	// Nor can the rows.
	w.exec(`ALTER TABLE pending_uploads RENAME TO elsewhere`)
	again(r).want(t, 500, failed)
	again(never).want(t, 500, failed)
	w.exec(`ALTER TABLE elsewhere RENAME TO pending_uploads`)
	again(r).want(t, 410, gone)
	again(never).want(t, 410, expired)
}

// The log of a whole direct upload at its most talkative, with all that can go
// wrong, lets its reader neither write, nor commit, nor read.
func TestLogOfADirectUploadOpensNoDoor(t *testing.T) {
	t.Parallel()
	var secrets []string
	below := setup{objects: func(cfg *s3blob.Config) {
		keys, err := cfg.Credentials.Retrieve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, keys.SecretAccessKey)
	}}
	w := newServerWith(t, below, withDirect(directKey))
	ws, token := w.workspace("poll")
	other, otherToken := w.workspace("poll")
	secrets = append(secrets, token, otherToken, adminToken, directKey, "X-Amz-", "AWS4-HMAC", "signature=", "Bearer")
	signature := func(signed string) {
		query := parseURL(t, signed).Query()
		for _, name := range []string{"X-Amz-Signature", "signature"} {
			if s := query.Get(name); s != "" {
				secrets = append(secrets, s, strings.TrimPrefix(signed, "http://"))
			}
		}
	}
	reserve := func(files ...askedFile) reserved {
		r := w.reserve(ws, token, files...)
		body, mac, _ := strings.Cut(r.CommitToken, ".")
		secrets = append(secrets, r.CommitToken, body, mac)
		for _, f := range r.Files {
			signature(f.URL)
		}
		return r
	}
	commit := func(ws storage.WorkspaceID, bearer, commitToken string) {
		w.postJSON(directPath(ws)+"/commit", bearer, map[string]string{"commit_token": commitToken})
	}

	r := reserve(asked("a.txt", "hello"), asked("b.txt", "world"))
	commit(ws, token, r.CommitToken) // nothing is there
	w.write(r.Files[0], "hello")
	w.write(r.Files[1], "world")
	commit(other, otherToken, r.CommitToken)
	commit(ws, otherToken, r.CommitToken)
	commit(ws, token, r.CommitToken+"0")
	commit(ws, token, resign(t, r.CommitToken, signingKey('z'), func(map[string]any) {}))
	wrong := resign(t, r.CommitToken, directKey, func(r map[string]any) { r["f"].([]any)[0].(map[string]any)["s"] = 6 })
	secrets = append(secrets, wrong)
	commit(ws, token, wrong)
	commit(ws, token, r.CommitToken)
	commit(ws, token, r.CommitToken)
	w.postJSON(directPath(ws)+"/commit?commit_token="+r.CommitToken, token, r.commit())
	late := resign(t, r.CommitToken, directKey, func(r map[string]any) { r["e"] = time.Now().Unix() })
	secrets = append(secrets, late)
	commit(ws, token, late)
	u := w.contentURL(r.Files[0].staged, token)
	signature(u.URL)
	w.open("GET", u)
	w.do("GET", r.Files[0].path("content"), token, nil)
	w.do("POST", r.Files[0].path("ack"), token, nil)
	if err := w.objects.Delete(t.Context(), w.objectKeys()...); err != nil {
		t.Fatal(err)
	}
	w.do("GET", r.Files[1].path("content"), token, nil)
	w.open("GET", u)
	unused := reserve(asked("c.txt", "hello"))
	w.pool.Close() // the noisiest end
	commit(ws, token, unused.CommitToken)
	commit(ws, token, late)

	log := w.log.String()
	if !strings.Contains(log, `"msg":"direct upload reserved"`) || !strings.Contains(log, `"direct":true`) {
		t.Fatal("nothing was logged")
	}
	for _, secret := range secrets {
		for line := range strings.Lines(log) {
			if secret == "" || strings.Contains(line, secret) {
				t.Errorf("%.12q… is in the log: %.300s", secret, line)
			}
		}
	}
}

// Both commits are on their way through the database at the same time: somebody
// holds the feed, so the first waits there, with its rows inserted and not
// committed, and the second waits for the first.
func TestDirectCommitsThatMeetInTheDatabaseAnswerTheSame(t *testing.T) {
	t.Parallel()
	w := newServer(t, withDirect(""))
	ws, token := w.workspace("poll")
	w.mustUpload(ws, token, part{name: "before", content: "x"})
	r := w.reserve(ws, token, asked("a.txt", "hello"))
	w.write(r.Files[0], "hello")
	holder, err := w.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(t.Context(), `SELECT FROM activity_feeds WHERE workspace_id = $1 FOR UPDATE`, ws.String()); err != nil {
		t.Fatal(err)
	}
	replies := make(chan reply)
	for range 2 {
		go func() {
			body := bytes.NewReader([]byte(`{"commit_token":"` + r.CommitToken + `"}`))
			got, err := w.try("POST", directPath(ws)+"/commit", token, body)
			if err != nil {
				got.body = err.Error()
			}
			replies <- got
		}()
	}
	eventually(t, "both commits wait", func() bool {
		return w.count(`SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())`) == 2
	})
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	first, second := <-replies, <-replies
	if first.status != http.StatusOK || second.status != http.StatusOK || first.body != second.body {
		t.Errorf("%d %s, %d %s", first.status, first.body, second.status, second.body)
	}
	if n := w.count(`SELECT count(*) FROM activity_logs`); n != 2 {
		t.Errorf("%d feed entries, want 2", n)
	}
}
