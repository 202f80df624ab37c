package handlers_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/storage"
)

// claim is an ack's body.
func claim(t *testing.T, content string) string {
	t.Helper()
	b, err := json.Marshal(wire.AckRequest{SHA256: sha256Hex([]byte(content)), Size: int64(len(content))})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (w *world) acked() int {
	w.t.Helper()
	return w.count(`SELECT count(*) FROM pending_uploads WHERE acked_at IS NOT NULL`)
}

func TestAckOfOtherContentIs409AndChangesNothing(t *testing.T) {
	t.Parallel()
	eachPlacement(t, func(t *testing.T, placement func(*testing.T) func(*handlers.Config)) {
		w := newServer(t, placement(t))
		ws, token := w.workspace("poll")
		f := w.mustUpload(ws, token, part{name: "a", content: "hello"})[0]
		right, wrong := sha256Hex([]byte("hello")), sha256Hex([]byte("hullo"))
		refusal := fmt.Sprintf(`{"error":"content mismatch","sha256":%q,"size":5}`, right)
		bodies := []string{
			claim(t, "hullo"),
			fmt.Sprintf(`{"sha256":%q}`, wrong),
			fmt.Sprintf(`{"sha256":%q}`, strings.ToUpper(wrong)),
			fmt.Sprintf(`{"sha256":%q}`, strings.Repeat("0", 64)),
			fmt.Sprintf(`{"sha256":%q,"size":4}`, right),
			fmt.Sprintf(`{"sha256":%q,"size":"5","more":[1]}`, wrong),
			fmt.Sprintf(`{"sha256":7,"size":%d}`, 6),
			`{"size":0}`,
			`{"size":-5}`,
			`{"size":4}`,
		}
		refuse := func(when string, acked int) {
			t.Helper()
			for _, body := range bodies {
				got := w.postJSON(f.path("ack"), token, body)
				got.want(t, http.StatusConflict, "content mismatch")
				if got.body != refusal {
					t.Errorf("%s, %s: %s, want %s", when, body, got.body, refusal)
				}
			}
			if n := w.acked(); n != acked {
				t.Errorf("%s: %d rows are acked", when, n)
			}
		}
		refuse("before the ack", 0)
		if got := w.do("GET", f.path("content"), token, nil); got.body != "hello" {
			t.Errorf("content after a refused ack: %d %q", got.status, got.body)
		}
		for range 2 {
			if got := w.postJSON(f.path("ack"), token, claim(t, "hello")); got.status != 200 || got.body != `{"acked":true}` {
				t.Fatalf("ack of what was staged: %d %s", got.status, got.body)
			}
		}
		refuse("after the ack", 1)
		if n := w.gauge("pendinguploads_ack_mismatches_total"); n != 2*len(bodies) {
			t.Errorf("%d mismatches counted, want %d", n, 2*len(bodies))
		}
		lines := w.log.lines("acknowledged content is not what was staged")
		if len(lines) != 2*len(bodies) || !strings.Contains(lines[0], ws.String()) || !strings.Contains(lines[0], `"size":5`) {
			t.Errorf("on record: %v", lines)
		}
	})
}

func TestAckBodiesThatClaimNothingWrongAreNotLookedAt(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	right, wrong := sha256Hex([]byte("hello")), sha256Hex([]byte("hullo"))
	for name, body := range map[string]io.Reader{
		"none":                    nil,
		"empty":                   strings.NewReader(""),
		"blank":                   strings.NewReader(" \n"),
		"text":                    strings.NewReader("any body"),
		"form":                    strings.NewReader("size=4&sha256=" + wrong),
		"binary":                  strings.NewReader("\x00\xff\xfe{"),
		"null":                    strings.NewReader("null"),
		"array":                   strings.NewReader(`[{"size":4}]`),
		"number":                  strings.NewReader("4"),
		"empty object":            strings.NewReader("{}"),
		"other members":           strings.NewReader(`{"status":"ok","Size":4,"SHA256":"` + wrong + `"}`),
		"cut off":                 strings.NewReader(`{"size":4`),
		"two values":              strings.NewReader(`{"size":4}{"size":4}`),
		"nulls":                   strings.NewReader(`{"sha256":null,"size":null}`),
		"size as text":            strings.NewReader(`{"size":"4"}`),
		"size with a fraction":    strings.NewReader(`{"size":4.5}`),
		"size beyond all numbers": strings.NewReader(`{"size":99999999999999999999}`),
		"digest too short":        strings.NewReader(`{"sha256":"` + wrong[1:] + `"}`),
		"digest too long":         strings.NewReader(`{"sha256":"` + wrong + `0"}`),
		"digest of other letters": strings.NewReader(`{"sha256":"` + strings.Repeat("g", 64) + `"}`),
		"digest with a prefix":    strings.NewReader(`{"sha256":"sha256:` + wrong + `"}`),
		"digest as a list":        strings.NewReader(`{"sha256":["` + wrong + `"]}`),
		"right":                   strings.NewReader(claim(t, "hello")),
		"right, in capitals":      strings.NewReader(`{"sha256":"` + strings.ToUpper(right) + `"}`),
		"right size":              strings.NewReader(`{"size":5}`),
		"right, and more":         strings.NewReader(`{"size":5,"sha256":"` + right + `","path":"/x"}`),
		"longer than a claim":     strings.NewReader(`{"size":4,"x":"` + strings.Repeat("x", 5000) + `"}`),
		"the same without length": io.MultiReader(strings.NewReader(`{"size":4,"x":"` + strings.Repeat("x", 5000) + `"}`)),
	} {
		f := w.mustUpload(ws, token, part{name: "a", content: "hello"})[0]
		before := w.acked()
		if got := w.do("POST", f.path("ack"), token, body); got.status != 200 || got.body != `{"acked":true}` {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
		if w.acked() != before+1 {
			t.Errorf("%s: the row is not acked", name)
		}
	}
	if n := w.gauge("pendinguploads_ack_mismatches_total"); n != 0 {
		t.Errorf("%d mismatches counted", n)
	}
}

func TestAckOfARowWithoutADigestComparesWhatIsKnown(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	f := w.mustUpload(ws, token, part{name: "a", content: "hello"})[0]
	w.exec(`UPDATE pending_uploads SET sha256 = NULL`)
	got := w.postJSON(f.path("ack"), token, claim(t, "longer"))
	if got.status != 409 || got.body != `{"error":"content mismatch","size":5}` {
		t.Errorf("another size: %d %s", got.status, got.body)
	}
	if got := w.postJSON(f.path("ack"), token, claim(t, "hullo")); got.status != 200 {
		t.Errorf("the same size: %d %s", got.status, got.body)
	}
	// A row that holds its content needs no stored digest.
	w.exec(`UPDATE pending_uploads SET acked_at = NULL, object_key = NULL, content = 'hello'`)
	w.postJSON(f.path("ack"), token, claim(t, "hullo")).want(t, 409, "content mismatch")
	if got := w.postJSON(f.path("ack"), token, claim(t, "hello")); got.status != 200 {
		t.Errorf("its content: %d %s", got.status, got.body)
	}
}

func TestAckOfWhatIsNotTheCallersOrGoneIs404WhateverItClaims(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	a, tokenA := w.workspace("poll")
	b, tokenB := w.workspace("poll")
	f := w.mustUpload(a, tokenA, part{name: "a", content: "hello"})[0]
	foreign := strings.Replace(f.path("ack"), a.String(), b.String(), 1)
	absent := strings.Replace(f.path("ack"), f.URI[len(f.URI)-36:], newWorkspaceID(t).String(), 1)
	w.postJSON(f.path("ack"), tokenB, claim(t, "x")).want(t, 401, "invalid workspace auth token")
	for _, body := range []string{claim(t, "x"), claim(t, "hello")} {
		w.postJSON(foreign, tokenB, body).want(t, 404, "pending upload not found")
		w.postJSON(absent, tokenA, body).want(t, 404, "pending upload not found, expired, or already acked")
	}
	w.exec(`UPDATE pending_uploads SET expires_at = now() - interval '1 second'`)
	w.postJSON(f.path("ack"), tokenA, claim(t, "x")).want(t, 404, "pending upload not found, expired, or already acked")
	if w.acked() != 0 {
		t.Error("a row is acked")
	}
}

// While a right ack is on its way to the row, a wrong one is refused all the same.
func TestWrongAckBesideARightOne(t *testing.T) {
	t.Parallel()
	f := &faulty{}
	w := newServer(t, wrapped(f))
	ws, token := w.workspace("poll")
	file := w.mustUpload(ws, token, part{name: "a", content: "hello"})[0]
	inside, proceed := make(chan struct{}), make(chan struct{})
	f.ack = func(ctx context.Context, ws storage.WorkspaceID, id storage.FileID) error {
		close(inside) // a second ack that came this far would panic
		<-proceed
		return f.Storage.Ack(ctx, ws, id)
	}
	right, hello := make(chan reply, 1), strings.NewReader(claim(t, "hello"))
	go func() {
		got, err := w.try("POST", file.path("ack"), token, hello)
		if err != nil {
			t.Error(err)
		}
		right <- got
	}()
	<-inside
	w.postJSON(file.path("ack"), token, claim(t, "hullo")).want(t, 409, "content mismatch")
	if w.acked() != 0 {
		t.Error("the wrong one acked it")
	}
	close(proceed)
	if got := <-right; got.body != `{"acked":true}` || w.acked() != 1 {
		t.Errorf("the right one: %d %s", got.status, got.body)
	}
}

func TestAckWhoseBodyBreaksOffIsNone(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	f := w.mustUpload(ws, token, part{name: "a", content: "hello"})[0]
	conn := w.dialRequest("POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: 100\r\n\r\n{\"size\":", f.path("ack"), w.addr, token)
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest || w.acked() != 0 {
		t.Errorf("%d, %d rows acked", resp.StatusCode, w.acked())
	}
}
