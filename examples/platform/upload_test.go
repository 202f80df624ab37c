package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads"
)

// A feed entry that cannot be written takes all files of its request with it.
func TestRollback(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, b backend) {
		base, _ := b.run(t)
		c := client{t, base, uuid.New()}
		kept := c.upload(file{"kept.txt", "", noise(100 << 10)})[0]
		_, err := b.db.ExecContext(t.Context(), `ALTER TABLE activity_logs ADD CONSTRAINT refuse CHECK (request_body->>'name' <> 'refused')`)
		if err != nil {
			t.Fatal(err)
		}
		c.post(file{"one", "", noise(100 << 10)}, file{"refused", "", noise(100 << 10)}).want(t, http.StatusInternalServerError, `{"error":"internal error"}`)
		if rows, entries := b.count(t, "pending_uploads"), b.count(t, "activity_logs"); rows != 1 || entries != 1 {
			t.Errorf("%d rows and %d entries, want those of the first request", rows, entries)
		}

		// Objects of the request are left: they go when they are old enough to belong
		// to no transaction that still runs.
		left := 0
		if b.server != nil {
			left = 2
		}
		later := b.store(t, pendinguploads.WithClock(func() time.Time { return time.Now().Add(pendinguploads.OrphanGrace + time.Minute) }))
		for _, sweep := range []struct {
			uploads *pendinguploads.Store
			want    int
		}{{b.store(t), 0}, {later, left}, {later, 0}} {
			if n, err := sweep.uploads.SweepOrphans(t.Context()); err != nil || n != sweep.want {
				t.Errorf("%d objects without rows removed, want %d: %v", n, sweep.want, err)
			}
		}
		if n := b.objects(t); b.server != nil && n != 1 {
			t.Errorf("%d objects, want 1", n)
		}
		c.content(kept.FileID, "").want(t, http.StatusOK)
	})
}

// What is refused leaves nothing, whatever else is in the request.
func TestRefusedFiles(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, b backend) {
		base, _ := b.run(t)
		c := client{t, base, uuid.New()}
		good := file{"good.txt", "text/plain", []byte("good")}
		c.post(good, file{"empty.txt", "", nil}).want(t, http.StatusBadRequest, `"error":"file is empty"`, `"filename":"empty.txt"`)
		size := pendinguploads.MaxFileBytes + 1000
		c.post(good, file{"large.bin", "", make([]byte, size)}).want(t, http.StatusRequestEntityTooLarge,
			`"error":"file exceeds per-file cap"`, `"filename":"large.bin"`, fmt.Sprintf(`"size":%d`, size), fmt.Sprintf(`"max":%d`, pendinguploads.MaxFileBytes))
		c.post(good, file{"above.bin", "", make([]byte, 1<<20+1)}).want(t, http.StatusRequestEntityTooLarge, `"error":"one or more files exceed per-file cap"`)
		c.post().want(t, http.StatusBadRequest, `"error":"no files field in request"`)
		if rows, entries, objects := b.count(t, "pending_uploads"), b.count(t, "activity_logs"), b.objects(t); rows+entries+objects != 0 {
			t.Errorf("%d rows, %d entries, %d objects, want none", rows, entries, objects)
		}

		// A long name is no error: it is cut to what the storage takes.
		long := c.upload(file{strings.Repeat("n", 300) + ".txt", "text/plain", []byte("x")}, file{"exact.bin", "", make([]byte, 1<<20)})
		if want := strings.Repeat("n", 96) + ".txt"; long[0].Name != want {
			t.Errorf("name %q, want %q", long[0].Name, want)
		}
	}, pendinguploads.WithMaxFileBytes(1<<20))
}

// The limits of a request are told before the database is asked for anything.
func TestRefusedRequests(t *testing.T) {
	t.Parallel()
	p := &platform{token: testToken, log: slog.New(slog.DiscardHandler)}
	forms := func(n, size int) form {
		return newForm(t, slices.Repeat([]file{{"f", "", make([]byte, size)}}, n)...)
	}
	short := forms(1, 100)
	short.body.Truncate(short.body.Len() - 30)
	for name, c := range map[string]struct {
		form
		status int
		want   string
	}{
		"too many files":   {forms(maxFiles+1, 1), 400, `{"error":"too many files (limit 64)"}`},
		"too many bytes":   {forms(3, 20<<20), 413, fmt.Sprintf(`{"error":"request exceeds cap","max":%d}`, maxRequestBytes)},
		"a body cut short": {short, 400, `{"error":"malformed multipart body"}`},
		"no multipart":     {form{"text/plain", bytes.NewBufferString("x")}, 400, `{"error":"malformed multipart body"}`},
	} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/workspaces/"+uuid.NewString()+"/chat/uploads", c.body)
		req.Header.Set("Authorization", "Bearer "+testToken)
		req.Header.Set("Content-Type", c.contentType)
		w := httptest.NewRecorder()
		p.routes().ServeHTTP(w, req)
		if body := strings.TrimSpace(w.Body.String()); w.Code != c.status || body != c.want {
			t.Errorf("%s: status %d, %s", name, w.Code, body)
		}
	}
}
