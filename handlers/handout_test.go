package handlers_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/storage"
)

// handing is a faulty store that finds and stamps in one step.
type handing struct {
	faulty
	getFetched func(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (storage.Record, error)
}

func (h *handing) GetFetched(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (storage.Record, error) {
	if h.getFetched != nil {
		return h.getFetched(ctx, ws, f)
	}
	return h.Storage.(storage.Handouter).GetFetched(ctx, ws, f)
}

func handingOut(h *handing) func(*handlers.Config) {
	return func(cfg *handlers.Config) {
		h.Storage = cfg.Storage
		cfg.Storage = h
	}
}

func TestURLIsFoundAndStampedInOneStep(t *testing.T) {
	t.Parallel()
	eachPlacement(t, func(t *testing.T, placement func(*testing.T) func(*handlers.Config)) {
		h := &handing{}
		w := newServer(t, placement(t), handingOut(h))
		ws, token := w.workspace("poll")
		f := w.mustUpload(ws, token, part{name: "a", content: "hello"})[0]
		h.get = func(context.Context, storage.WorkspaceID, storage.FileID) (storage.Record, error) {
			return storage.Record{}, errors.New("a statement more than needed")
		}
		h.markFetched = func(context.Context, storage.WorkspaceID, storage.FileID) error {
			t.Error("stamped twice")
			return nil
		}
		u := w.contentURL(f, token)
		if !w.fetched() {
			t.Error("a URL that was handed out is no fetch")
		}
		if diff := cmp.Diff(map[string]int{"url": 1}, w.deliveries()); diff != "" {
			t.Errorf("counted (-want +got):\n%s", diff)
		}
		h.get, h.markFetched = nil, nil
		if got := w.open("GET", u); got.body != "hello" {
			t.Errorf("%d %q", got.status, got.body)
		}
	})
}

// A database that takes no writes, such as a standby, still knows where files are.
func TestURLIsHandedOutWithoutAStamp(t *testing.T) {
	t.Parallel()
	h := &handing{}
	w := newServer(t, handingOut(h))
	ws, token := w.workspace("poll")
	f := w.mustUpload(ws, token, part{name: "a", content: "hello"})[0]
	readOnly := errors.New("cannot execute UPDATE in a read-only transaction")
	h.getFetched = func(context.Context, storage.WorkspaceID, storage.FileID) (storage.Record, error) {
		return storage.Record{}, readOnly
	}
	h.markFetched = func(context.Context, storage.WorkspaceID, storage.FileID) error { return readOnly }
	if got := w.open("GET", w.contentURL(f, token)); got.body != "hello" {
		t.Errorf("%d %q", got.status, got.body)
	}
	if n := len(w.log.lines("fetched_at not stamped")); n != 1 || w.fetched() {
		t.Errorf("%d lines on record, stamped: %v", n, w.fetched())
	}

	h.markFetched = nil // it was a failure of the moment
	if got := w.open("GET", w.contentURL(f, token)); got.body != "hello" || !w.fetched() {
		t.Errorf("%d %q, stamped: %v", got.status, got.body, w.fetched())
	}
}

// Somebody else holds the row for longer than a stamp is waited for.
func TestURLOfALockedRowIsHandedOut(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	f := w.mustUpload(ws, token, part{name: "a", content: "hello"})[0]
	tx, err := w.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), `SELECT FROM pending_uploads FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	if got := w.open("GET", w.contentURL(f, token)); got.body != "hello" {
		t.Errorf("%d %q", got.status, got.body)
	}
	if n := len(w.log.lines("fetched_at not stamped")); n != 1 {
		t.Errorf("%d lines on record", n)
	}
}

// What asks for a redirect and gets a piece of the bytes has fetched nothing.
func TestRedirectThatBecomesARangeIsNoFetch(t *testing.T) {
	t.Parallel()
	w := newServer(t, redirecting(true)) // the store has the service's host name
	ws, token := w.workspace("poll")
	f := w.mustUpload(ws, token, part{name: "a", content: "hello"})[0]
	got := w.do("GET", f.path("content"), token, nil, "Range", "bytes=1-2")
	if got.status != http.StatusPartialContent || got.body != "el" || w.fetched() {
		t.Errorf("%d %q, stamped: %v", got.status, got.body, w.fetched())
	}
}
