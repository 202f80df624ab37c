package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads"
)

// noise is content that no compression makes small.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}).Read(b)
	return b
}

// A poller's way: see the entries, fetch, acknowledge; and then the sweep.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for rule, options := range map[string][]pendinguploads.Option{
		"acked is gone":          nil,
		"acked can still be got": {pendinguploads.WithReadAfterAck()},
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			afterAck := http.StatusNotFound
			if options != nil {
				afterAck = http.StatusOK
			}
			eachBackend(t, func(t *testing.T, b backend) { roundTrip(t, b, afterAck) }, options...)
		})
	}
}

func roundTrip(t *testing.T, b backend, afterAck int) {
	base, _ := b.run(t)
	c := client{t, base, uuid.New()}
	files := []file{
		{"alpha.txt", "text/plain; charset=utf-8", noise(1)},
		{"große Datei.bin", "application/x-thing", noise(6 << 20)},
		{"dir/none", "", noise(4 << 10)},
	}
	want := []upload{
		{Name: "alpha.txt", MimeType: "text/plain"}, {Name: "gro_e_Datei.bin", MimeType: "application/x-thing"}, {Name: "none"},
	}
	staged := c.upload(files...)
	entries := c.feed("?type=a2a_receive&since_secs=600&limit=100")
	slices.Reverse(entries) // the first window is newest first
	if len(staged) != 3 || len(entries) != 3 {
		t.Fatalf("%d files, %d entries, want 3", len(staged), len(entries))
	}
	for i, e := range entries {
		want[i].FileID, want[i].Size = staged[i].FileID, len(files[i].content)
		want[i].URI = fmt.Sprintf("platform-pending:%s/%s", c.ws, staged[i].FileID)
		if staged[i] != want[i] || e.RequestBody != want[i] {
			t.Errorf("file %d is %+v, in the feed %+v, want %+v", i, staged[i], e.RequestBody, want[i])
		}
		if e.ActivityType != "a2a_receive" || e.Method != "chat_upload_receive" || e.Summary != "chat_upload_receive: "+want[i].Name || time.Since(e.CreatedAt).Abs() > time.Minute {
			t.Errorf("entry %+v", e)
		}
	}

	for i, u := range staged {
		got := c.content(u.FileID, "")
		got.want(t, http.StatusOK)
		if !bytes.Equal(got.body, files[i].content) {
			t.Errorf("file %d: %d bytes, want %d", i, len(got.body), u.Size)
		}
		wantType := cmp.Or(u.MimeType, "application/octet-stream")
		wantDisposition := fmt.Sprintf(`attachment; filename="%s"; filename*=UTF-8''%s`, u.Name, u.Name)
		if h := got.header; h.Get("Content-Type") != wantType || h.Get("Content-Disposition") != wantDisposition || h.Get("Content-Length") != fmt.Sprint(u.Size) || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("file %d: headers %v", i, h)
		}
		b.wantByURL(t, c, u, files[i].content)
	}
	waitFor(t, "all to be marked as fetched", func() bool { return b.count(t, `pending_uploads WHERE fetched_at IS NOT NULL`) == 3 })

	uploads := b.store(t)
	for _, u := range staged {
		c.ack(u.FileID).want(t, http.StatusOK, `{"acked":true}`)
		c.content(u.FileID, "").want(t, afterAck)
		c.ack(u.FileID).want(t, afterAck)
		if err := uploads.Ack(t.Context(), u.FileID); err != nil {
			t.Errorf("the storage, asked once more: %v", err)
		}
	}
	if swept, err := uploads.Sweep(t.Context(), time.Hour); err != nil || swept.Total() != 0 {
		t.Errorf("sweep within the retention: %+v, %v", swept, err)
	}
	if swept, err := uploads.Sweep(t.Context(), 0); err != nil || swept != (pendinguploads.SweepResult{Acked: 3}) {
		t.Errorf("sweep: %+v, %v", swept, err)
	}
	c.ack(staged[0].FileID).want(t, http.StatusNotFound, "pending upload not found")
	if rows, objects := b.count(t, "pending_uploads"), b.objects(t); rows != 0 || objects != 0 {
		t.Errorf("%d rows and %d objects are left", rows, objects)
	}
}

// wantByURL fetches a file with ?delivery=url: the bytes where they are in the row,
// and otherwise an address that needs no token.
func (b backend) wantByURL(t *testing.T, c client, u upload, want []byte) {
	t.Helper()
	got := c.content(u.FileID, "?delivery=url")
	got.want(t, http.StatusOK)
	if inRow := b.server == nil || b.count(t, `pending_uploads WHERE file_id = $1 AND object_key IS NULL`, u.FileID) == 1; !inRow {
		var at struct {
			URL       string
			ExpiresAt time.Time `json:"expires_at"`
		}
		got.decode(t, http.StatusOK, &at)
		if left := time.Until(at.ExpiresAt); left <= 0 || left > urlTTL {
			t.Errorf("the URL is good for %v", left)
		}
		got = fetch(t, http.MethodGet, at.URL, "", "", nil)
		got.want(t, http.StatusOK)
	}
	if !bytes.Equal(got.body, want) {
		t.Errorf("by URL: %d bytes, want %d", len(got.body), len(want))
	}
}

// What another workspace staged is not there, and stays as it is.
func TestOtherWorkspacesFile(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, b backend) {
		base, _ := b.run(t)
		owner, other := client{t, base, uuid.New()}, client{t, base, uuid.New()}
		u := owner.upload(file{"a.txt", "text/plain", []byte("private")})[0]
		for _, query := range []string{"", "?delivery=url"} {
			other.content(u.FileID, query).want(t, http.StatusNotFound, `"error":"pending upload not found`)
		}
		other.ack(u.FileID).want(t, http.StatusNotFound, `"error":"pending upload not found`)
		if n := b.count(t, `pending_uploads WHERE fetched_at IS NULL AND acked_at IS NULL`); n != 1 {
			t.Errorf("%d files untouched, want 1", n)
		}
		if entries := other.feed(""); len(entries) != 0 {
			t.Errorf("the other feed has %+v", entries)
		}
		owner.content(u.FileID, "").want(t, http.StatusOK, "private")
	})
}

// double is a Storage of the first version's four methods, as tests of platforms
// have them.
type double struct {
	record         pendinguploads.Record
	err            error
	fetched, acked int
}

var _ pendinguploads.Storage = (*double)(nil)

func (d *double) Put(context.Context, uuid.UUID, []byte, string, string) (uuid.UUID, error) {
	return uuid.Nil, errors.New("not asked for")
}

func (d *double) Get(_ context.Context, fileID uuid.UUID) (pendinguploads.Record, error) {
	if d.err == nil && fileID != d.record.FileID {
		return pendinguploads.Record{}, fmt.Errorf("double: %w", pendinguploads.ErrNotFound)
	}
	return d.record, d.err
}

func (d *double) MarkFetched(context.Context, uuid.UUID) error { d.fetched++; return nil }

func (d *double) Ack(context.Context, uuid.UUID) error { d.acked++; return d.err }

func TestHandlersOnDouble(t *testing.T) {
	t.Parallel()
	ws, id := uuid.New(), uuid.New()
	record := pendinguploads.Record{FileID: id, WorkspaceID: ws, Content: []byte("abc"), Filename: "a\r\n\"b", Mimetype: "text/plain", SizeBytes: 3}
	content, ack := "/workspaces/"+ws.String()+"/pending-uploads/"+id.String()+"/content", "/workspaces/"+ws.String()+"/pending-uploads/"+id.String()+"/ack"
	for name, c := range map[string]struct {
		method, path   string
		err            error
		status         int
		body           string
		fetched, acked int
	}{
		"content":              {"GET", content, nil, 200, "abc", 1, 0},
		"content by URL":       {"GET", content + "?delivery=url", nil, 200, "abc", 1, 0},
		"ack":                  {"POST", ack, nil, 200, `{"acked":true}`, 0, 1},
		"storage fails":        {"GET", content, errors.New("disk on fire"), 500, `{"error":"internal error"}`, 0, 0},
		"no such file":         {"GET", "/workspaces/" + ws.String() + "/pending-uploads/" + uuid.NewString() + "/content", nil, 404, `{"error":"pending upload not found, expired, or already acked"}`, 0, 0},
		"another workspace":    {"POST", "/workspaces/" + uuid.NewString() + "/pending-uploads/" + id.String() + "/ack", nil, 404, `{"error":"pending upload not found, expired, or already acked"}`, 0, 0},
		"workspace is no UUID": {"GET", "/workspaces/x/pending-uploads/" + id.String() + "/content", nil, 400, `{"error":"invalid workspace ID"}`, 0, 0},
		"file is no UUID":      {"GET", "/workspaces/" + ws.String() + "/pending-uploads/x/content", nil, 400, `{"error":"invalid file_id"}`, 0, 0},
	} {
		uploads := &double{record: record, err: c.err}
		p := &platform{uploads: uploads, token: testToken, log: slog.New(slog.DiscardHandler)}
		req := httptest.NewRequestWithContext(t.Context(), c.method, c.path, nil)
		req.Header.Set("Authorization", "Bearer "+testToken)
		w := httptest.NewRecorder()
		p.routes().ServeHTTP(w, req)
		body := string(bytes.TrimSpace(w.Body.Bytes()))
		if w.Code != c.status || body != c.body || uploads.fetched != c.fetched || uploads.acked != c.acked {
			t.Errorf("%s: status %d, %s, fetched %d, acked %d times", name, w.Code, body, uploads.fetched, uploads.acked)
		}
		if disposition := w.Header().Get("Content-Disposition"); c.body == "abc" && disposition != `attachment; filename="a___b"; filename*=UTF-8''a___b` {
			t.Errorf("%s: Content-Disposition %q", name, disposition)
		}
		if c.body != "abc" && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: no JSON: %s", name, body)
		}
	}
}

// A file that goes between the look and the ack is acked all the same.
func TestAckRacesSweep(t *testing.T) {
	t.Parallel()
	ws, id := uuid.New(), uuid.New()
	uploads := &sweptBeforeAck{double{record: pendinguploads.Record{FileID: id, WorkspaceID: ws}}}
	p := &platform{uploads: uploads, token: testToken, log: slog.New(slog.DiscardHandler)}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/workspaces/"+ws.String()+"/pending-uploads/"+id.String()+"/ack", nil)
	req.Header.Set("Authorization", "Bearer "+testToken)
	w := httptest.NewRecorder()
	p.routes().ServeHTTP(w, req)
	if got := w.Body.String(); w.Code != http.StatusOK || got != `{"acked":true,"raced":true}`+"\n" {
		t.Errorf("status %d: %s", w.Code, got)
	}
}

type sweptBeforeAck struct{ double }

func (*sweptBeforeAck) Ack(context.Context, uuid.UUID) error { return pendinguploads.ErrNotFound }

func TestToken(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ token, header string }{
		{testToken, ""}, {testToken, "Bearer "}, {testToken, "Bearer x" + testToken}, {testToken, "bearer " + testToken}, {testToken, testToken},
		{"", "Bearer "}, {"", ""},
	} {
		p := &platform{uploads: &double{err: errors.New("asked without a token")}, token: c.token, log: slog.New(slog.DiscardHandler)}
		for _, route := range []string{"POST chat/uploads", "GET activity", "GET pending-uploads/x/content", "POST pending-uploads/x/ack"} {
			var method, path string
			_, _ = fmt.Sscan(route, &method, &path)
			req := httptest.NewRequestWithContext(t.Context(), method, "/workspaces/"+uuid.NewString()+"/"+path, nil)
			req.Header.Set("Authorization", c.header)
			w := httptest.NewRecorder()
			p.routes().ServeHTTP(w, req)
			if w.Code != http.StatusUnauthorized {
				t.Errorf("%s with %q where the token is %q: status %d", route, c.header, c.token, w.Code)
			}
		}
	}
}
