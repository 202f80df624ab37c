package handlers_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/storage"
)

// corrupt puts other bytes of the same size in the place of all content.
func (w *world) corrupt(size int) {
	w.t.Helper()
	wrong := []byte(pattern(size))
	wrong[size-1] ^= 1 // the last byte alone: all others go out before it is known
	for _, key := range w.objectKeys() {
		if err := w.objects.Put(w.t.Context(), key, bytes.NewReader(wrong), blob.PutOptions{}); err != nil {
			w.t.Fatal(err)
		}
	}
	w.exec(`UPDATE pending_uploads SET content = $1 WHERE content IS NOT NULL`, wrong)
}

func TestCorruptContentIsNeverAWholeBody(t *testing.T) {
	t.Parallel()
	eachPlacement(t, func(t *testing.T, placement func(*testing.T) func(*handlers.Config)) {
		for name, size := range map[string]int{"small": 1000, "all in the first read": 64 << 10, "large": 5<<20 + 1} {
			for _, whole := range []string{"", "bytes=0-"} {
				t.Run(name+" "+whole, func(t *testing.T) {
					t.Parallel()
					w := newServer(t, placement(t))
					ws, token := w.workspace("poll")
					f := w.mustUpload(ws, token, part{name: "a", content: pattern(size)})[0]
					w.corrupt(size)
					var headers []string
					if whole != "" {
						headers = []string{"Range", whole}
					}
					got, err := w.try("GET", f.path("content"), token, nil, headers...)
					switch {
					case size <= 64<<10: // known before the reply begins
						if err != nil {
							t.Fatal(err)
						}
						got.want(t, 500, "storage error")
					case !errors.Is(err, io.ErrUnexpectedEOF) || len(got.body) >= size:
						t.Errorf("%d, %d bytes of %d, %v; want a body that is cut off", got.status, len(got.body), size, err)
					}
					if n := w.gauge("pendinguploads_content_mismatches_total"); n != 1 {
						t.Errorf("%d mismatches counted, want 1", n)
					}
					lines := w.log.lines("stored content is not what was staged")
					if len(lines) != 1 || !strings.Contains(lines[0], ws.String()) || !strings.Contains(lines[0], f.URI[len(f.URI)-36:]) {
						t.Errorf("on record: %v", lines)
					}
					if w.fetched() {
						t.Error("it counts as a fetch")
					}
				})
			}
		}
	})
}

// Objects of live rows that are gone, shorter or longer than the row says, or other
// in a part that is read alone.
func TestObjectsOfAnotherSizeAreCorrupt(t *testing.T) {
	t.Parallel()
	const size = 5<<20 + 1
	content := pattern(size)
	longer := strings.Repeat("y", size+1)
	for name, c := range map[string]struct {
		object  string // in the object's place; empty: nothing
		span    string // Range
		status  int
		noticed bool
	}{
		"absent":                            {"", "", 500, true},
		"absent, a part":                    {"", "bytes=5-9", 500, true},
		"absent, its end":                   {"", "bytes=-1", 500, true},
		"shorter":                           {content[:3<<20], "", 200, true},
		"shorter by a byte":                 {content[:size-1], "", 200, true},
		"shorter than what is read first":   {content[:1000], "", 500, true},
		"shorter, a part that ends behind":  {content[:3<<20], "bytes=1000000-4000000", 206, true},
		"shorter, a part that begins there": {content[:3<<20], "bytes=3145728-3145730", 500, true},
		"shorter, a part that begins later": {content[:3<<20], "bytes=-1", 500, true},
		"shorter, a part that is there":     {content[:3<<20], "bytes=0-9", 206, false},
		"longer and other":                  {longer, "", 200, true},
		"longer, beginning right":           {content + "more", "", 200, false},
		"longer, a part":                    {content + "more", "bytes=5-", 206, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newServer(t)
			ws, token := w.workspace("poll")
			f := w.mustUpload(ws, token, part{name: "a", content: content})[0]
			key := w.objectKeys()[0]
			if err := w.objects.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			if c.object != "" {
				if err := w.objects.Put(t.Context(), key, strings.NewReader(c.object), blob.PutOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			var headers []string
			if c.span != "" {
				headers = []string{"Range", c.span}
			}
			got, err := w.try("GET", f.path("content"), token, nil, headers...)
			if got.status != c.status || (err != nil) != (c.noticed && c.status < 300) {
				t.Errorf("%d, %d bytes, %v", got.status, len(got.body), err)
			}
			switch {
			case !c.noticed && !strings.Contains(content, got.body):
				t.Error("other bytes than were uploaded")
			case c.status == 500:
				got.want(t, 500, "storage error")
			}
			noticed := 0
			if c.noticed {
				noticed = 1
			}
			eventually(t, "it is counted", func() bool { return w.gauge("pendinguploads_content_mismatches_total") == noticed })
			eventually(t, "it is marked", func() bool {
				n, err := w.uploads.CountCorrupt(t.Context())
				return err == nil && n == int64(noticed)
			})
			lines := w.log.lines("stored content is not what was staged")
			if len(lines) != noticed || noticed == 1 && !strings.Contains(lines[0], f.URI[len(f.URI)-36:]) {
				t.Errorf("on record: %v", lines)
			}
			if c.noticed && w.fetched() {
				t.Error("it counts as a fetch")
			}
		})
	}
}

// An object that goes while it is read goes with its row, or is missed.
func TestObjectsThatGoWhileTheyAreRead(t *testing.T) {
	t.Parallel()
	for name, live := range map[string]bool{"the row stays": true, "the row was acked": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &faulty{}
			w := newServer(t, wrapped(f))
			ws, token := w.workspace("poll")
			file := w.mustUpload(ws, token, part{name: "a", content: pattern(1 << 20)})[0]
			f.get = func(ctx context.Context, ws storage.WorkspaceID, id storage.FileID) (storage.Record, error) {
				rec, err := f.Storage.Get(ctx, ws, id)
				open := rec.Content.Opener
				rec.Content.Opener = func(ctx context.Context, r storage.Range) (io.ReadCloser, error) {
					if !live {
						w.do("POST", file.path("ack"), token, nil)
					}
					if err := w.objects.Delete(ctx, rec.Content.ObjectKey); err != nil {
						t.Error(err)
					}
					return open(ctx, r)
				}
				return rec, err
			}
			got := w.do("GET", file.path("content"), token, nil)
			if live {
				got.want(t, 500, "storage error")
			} else {
				got.want(t, 404, "pending upload not found, expired, or already acked")
			}
			if n := w.gauge("pendinguploads_content_mismatches_total"); (n == 1) != live {
				t.Errorf("%d mismatches counted", n)
			}
		})
	}
}
