package handlers_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// faulty is a Storage with one thing wrong: set the function to replace.
type faulty struct {
	storage.Storage
	putBatch    func(ctx context.Context, ws storage.WorkspaceID, b storage.Batch) ([]storage.Record, error)
	get         func(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (storage.Record, error)
	markFetched func(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) error
	ack         func(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) error
}

func (f *faulty) PutBatch(ctx context.Context, ws storage.WorkspaceID, b storage.Batch) ([]storage.Record, error) {
	if f.putBatch != nil {
		return f.putBatch(ctx, ws, b)
	}
	return f.Storage.PutBatch(ctx, ws, b)
}

func (f *faulty) Get(ctx context.Context, ws storage.WorkspaceID, id storage.FileID) (storage.Record, error) {
	if f.get != nil {
		return f.get(ctx, ws, id)
	}
	return f.Storage.Get(ctx, ws, id)
}

func (f *faulty) MarkFetched(ctx context.Context, ws storage.WorkspaceID, id storage.FileID) error {
	if f.markFetched != nil {
		return f.markFetched(ctx, ws, id)
	}
	return f.Storage.MarkFetched(ctx, ws, id)
}

func (f *faulty) Ack(ctx context.Context, ws storage.WorkspaceID, id storage.FileID) error {
	if f.ack != nil {
		return f.ack(ctx, ws, id)
	}
	return f.Storage.Ack(ctx, ws, id)
}

// wrapped puts a faulty store around the real one.
func wrapped(f *faulty) func(*handlers.Config) {
	return func(cfg *handlers.Config) {
		f.Storage = cfg.Storage
		cfg.Storage = f
		cfg.Timeouts.Open = time.Second
	}
}

// panicking is a body that panics in the middle.
type panicking struct{ r io.Reader }

func (p panicking) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if err != nil {
		panic("the disk is on fire")
	}
	return n, err
}

func TestPanicInAHandlerIs500AndLeavesNothing(t *testing.T) {
	t.Parallel()
	f := &faulty{}
	w := newServer(t, wrapped(f))
	f.putBatch = func(ctx context.Context, ws storage.WorkspaceID, b storage.Batch) ([]storage.Record, error) {
		inner := b.Uploads
		b.Uploads = func(yield func(storage.Upload, error) bool) {
			n := 0
			inner(func(u storage.Upload, err error) bool {
				if n++; n == 2 && err == nil { // the first file is an object by now
					u.Body = panicking{u.Body}
				}
				return yield(u, err)
			})
		}
		return f.Storage.PutBatch(ctx, ws, b)
	}
	f.get = func(context.Context, storage.WorkspaceID, storage.FileID) (storage.Record, error) { panic("no luck") }
	ws, token := w.workspace("poll")
	w.upload(ws, token, part{name: "a", content: "x"}, part{name: "b", content: strings.Repeat("x", 9<<20)}).want(t, 500, "internal error")
	w.wantNothingStaged()
	w.do("GET", "/workspaces/"+ws.String()+"/pending-uploads/"+newWorkspaceID(t).String()+"/content", token, nil).want(t, 500, "internal error")
	if len(w.log.lines("panic in handler")) != 2 {
		t.Error("the panics are not on record")
	}
	if got := w.do("GET", "/health", "", nil); got.status != 200 {
		t.Error("the server did not survive")
	}
}

// failsAfter is content that breaks after n bytes.
func failsAfter(n int, rec storage.Record) storage.Record {
	open := rec.Content.Opener
	rec.Content.Opener = func(ctx context.Context, r storage.Range) (io.ReadCloser, error) {
		body, err := open(ctx, r)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{io.MultiReader(io.LimitReader(body, int64(n)), failing{errors.New("object store went away")}), body}, nil
	}
	return rec
}

func TestContentThatBreaksAfterTheHeadersIsNoWholeBody(t *testing.T) {
	t.Parallel()
	f := &faulty{}
	w := newServer(t, wrapped(f))
	ws, token := w.workspace("poll")
	file := w.mustUpload(ws, token, part{name: "a", content: strings.Repeat("x", 1<<20)})[0]
	f.get = func(ctx context.Context, ws storage.WorkspaceID, id storage.FileID) (storage.Record, error) {
		rec, err := f.Storage.Get(ctx, ws, id)
		return failsAfter(300<<10, rec), err
	}
	got, err := w.try("GET", file.path("content"), token, nil)
	if err == nil || got.status != 200 || len(got.body) >= 1<<20 {
		t.Errorf("status %d, %d bytes, error %v; want a broken transfer", got.status, len(got.body), err)
	}
	if n := w.count(`SELECT count(*) FROM pending_uploads WHERE fetched_at IS NOT NULL`); n != 0 {
		t.Error("a broken transfer counts as a fetch")
	}
	if len(w.log.lines("fetch failed")) != 1 {
		t.Error("the failure is not on record")
	}
}

func TestContentIsOpenedAgainBeforeItFails(t *testing.T) {
	t.Parallel()
	f := &faulty{}
	w := newServer(t, wrapped(f))
	ws, token := w.workspace("poll")
	file := w.mustUpload(ws, token, part{name: "a", content: "hello"})[0]
	attempts := 0
	f.get = func(ctx context.Context, ws storage.WorkspaceID, id storage.FileID) (storage.Record, error) {
		rec, err := f.Storage.Get(ctx, ws, id)
		switch attempts++; attempts {
		case 1:
			return storage.Record{}, errors.New("database restarts")
		case 2:
			return failsAfter(2, rec), err // before anything was answered
		}
		return rec, err
	}
	if got := w.do("GET", file.path("content"), token, nil); got.status != 200 || got.body != "hello" || attempts != 3 {
		t.Errorf("got %d %q after %d attempts", got.status, got.body, attempts)
	}
	f.get = func(context.Context, storage.WorkspaceID, storage.FileID) (storage.Record, error) {
		return storage.Record{}, errors.New("database is down")
	}
	w.do("GET", file.path("content"), token, nil).want(t, 500, "storage error")
	f.get = func(ctx context.Context, _ storage.WorkspaceID, _ storage.FileID) (storage.Record, error) {
		<-ctx.Done() // hangs: the attempt must be cancelled in time for the client
		return storage.Record{}, ctx.Err()
	}
	w.do("GET", file.path("content"), token, nil).want(t, 500, "storage error")
}

func TestStampFailureChangesNothingForTheClient(t *testing.T) {
	t.Parallel()
	f := &faulty{markFetched: func(context.Context, storage.WorkspaceID, storage.FileID) error { return errors.New("no") }}
	w := newServer(t, wrapped(f))
	ws, token := w.workspace("poll")
	file := w.mustUpload(ws, token, part{name: "a", content: "hello"})[0]
	if got := w.do("GET", file.path("content"), token, nil); got.status != 200 || got.body != "hello" {
		t.Errorf("got %d %q", got.status, got.body)
	}
	if len(w.log.lines("fetched_at not stamped")) != 1 {
		t.Error("the failure is not on record")
	}
}

func TestAckThatRacesTheSweeperSaysSo(t *testing.T) {
	t.Parallel()
	f := &faulty{}
	w := newServer(t, wrapped(f))
	ws, token := w.workspace("poll")
	file := w.mustUpload(ws, token, part{name: "a", content: "hello"})[0]
	f.ack = func(ctx context.Context, ws storage.WorkspaceID, id storage.FileID) error {
		w.exec(`DELETE FROM pending_uploads`) // between the check and the update
		return f.Storage.Ack(ctx, ws, id)
	}
	if got := w.do("POST", file.path("ack"), token, nil); got.status != 200 || got.body != `{"acked":true,"raced":true}` {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

func TestStoreRefusalsHaveTheirReplies(t *testing.T) {
	t.Parallel()
	f := &faulty{}
	w := newServer(t, wrapped(f))
	ws, token := w.workspace("poll")
	for _, tc := range []struct {
		err    error
		status int
		text   string
		retry  string
	}{
		{storage.ErrBusy, 503, "upload capacity exhausted, retry shortly", "5"},
		{storage.ErrWorkspaceNotFound, 404, "workspace not found", ""},
		{metadata.ErrCommitUnknown, 500, "could not stage files", ""},
		{&storage.TooLargeError{Size: 9, Max: 8}, 413, "one or more files exceed per-file cap", ""},
		{errors.New("password=hunter2"), 500, "could not stage files", ""},
	} {
		f.putBatch = func(context.Context, storage.WorkspaceID, storage.Batch) ([]storage.Record, error) {
			return nil, tc.err
		}
		got := w.upload(ws, token, part{name: "a", content: "x"})
		got.want(t, tc.status, tc.text)
		if got.header.Get("Retry-After") != tc.retry || strings.Contains(got.body, "hunter2") {
			t.Errorf("%v: Retry-After %q, body %s", tc.err, got.header.Get("Retry-After"), got.body)
		}
	}
}

func TestClientThatLeavesAPreviewIsNoFailure(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	file := w.mustUpload(ws, token, part{name: "a", content: strings.Repeat("x", 16<<20)})[0]
	req, err := http.NewRequestWithContext(t.Context(), "GET", w.url+file.path("content"), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, 256<<10); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	eventually(t, "the server noticed", func() bool { return len(w.log.lines("fetch broken off by client")) == 1 })
	if lines := w.log.lines("fetch failed"); len(lines) != 0 {
		t.Errorf("it counts as a failure: %v", lines)
	}
}
