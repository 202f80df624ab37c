package metadata_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/molecule-ai/pendinguploads/metadata"
)

// TestStoredSizeIsWhatPostgreSQLGivesBack holds the size that pages are cut by to
// what is read, for every notation of numbers.
func TestStoredSizeIsWhatPostgreSQLGivesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, doc := range []string{
		`0`, `-1`, `10`, `1.50`, `1e3`, `1E+3`, `1.5e3`, `1.5e1`, `1.25e1`, `12.5e-1`, `1e-7`, `-1.5e-7`, `123e-2`, `1e511`, `-1e510`, `1e-510`,
		`1.7976931348623157e308`, `5e-324`, `-2.2250738585072014e-308`,
		`[1e5,"1e5",{"1e5":1e5,"\\\"1e9":-1e2}]`, `"\\"`, `[]`, `{"a":[[[]]],"b":true,"c":null}`,
	} {
		size, err := metadata.StoredSize(json.RawMessage(doc))
		if got := w.stored(t, doc); err != nil || size != int64(len(got)) {
			t.Errorf("%s: %d bytes, %v; want %d: %s", doc, size, err, len(got), got)
		}
	}
	// These are shorter than their notation says.
	for _, doc := range []string{`-0`, `0e9`, `0.001e5`, `{"a":1,"a":2}`, `"\u00e9"`} {
		size, err := metadata.StoredSize(json.RawMessage(doc))
		if got := w.stored(t, doc); err != nil || size < int64(len(got)) {
			t.Errorf("%s: %d bytes, %v; want %d or more: %s", doc, size, err, len(got), got)
		}
	}
}

// stored is a document as PostgreSQL keeps it, without spaces.
func (w *world) stored(t *testing.T, doc string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(query[string](t, w.pool, `SELECT $1::text::jsonb::text`, doc))); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestJSONBeyondABoundIsNamed(t *testing.T) {
	t.Parallel()
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	long := strings.Repeat("9", metadata.MaxNumberDigits)
	many := func(number string, n int) string { return "[" + strings.Repeat(number+",", n) + "1]" }
	for doc, want := range map[string]string{
		long: "", long + "0": "4000 digits", "[0." + long: "4000 digits", long[4:] + "e1": "",
		`{"a":1e99999999999999999999}`: "512 digits", `1e-99999999999999999999`: "512 digits", `1e512`: "512 digits", `1e511`: "", `-1e-510`: "512 digits",
		`"` + long + `0e9"`: "", deep(200): "", deep(201): "200 deep", many("[]", 300): "",
		many("1e308", 200): "", many("1e308", 300): "twice its size", many("1.5e-05", 100_000): "",
	} {
		_, err := metadata.StoredSize(json.RawMessage(doc))
		var bound *metadata.JSONError
		if (err == nil) != (want == "") || err != nil && (!errors.As(err, &bound) || !strings.Contains(bound.Reason, want) || !errors.Is(err, metadata.ErrInvalidJSON)) {
			t.Errorf("%.20s… of %d bytes: %v, want %q", doc, len(doc), err, want)
		}
	}
}

// A page is cut by what its bodies have when they are read, not by how they were
// sent.
func TestPagesOfLongNumbersAreCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	body := json.RawMessage(`[` + strings.Repeat(`1e308,`, 200) + `1]`) // 1.2 kB, 62 kB
	cursor := w.append(t, message("before"))[0].ID
	for range 100 {
		w.append(t, metadata.NewEntry{ActivityType: metadata.ActivityReceive, RequestBody: body})
	}
	bytes := 0
	entries := w.page(t, metadata.Query{Type: metadata.ActivityReceive, After: &cursor, Limit: 100})
	for _, e := range entries {
		bytes += len(e.RequestBody)
	}
	if len(entries) < 50 || bytes > 4<<20 {
		t.Errorf("%d entries of %d bytes in a page", len(entries), bytes)
	}
}

func TestAgentCardsAreBoundLikeBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := registration(w.ws)
	r.AgentCard = json.RawMessage(`{"n":1e600}`)
	var bound *metadata.JSONError
	if _, err := w.workspaces.Register(t.Context(), r); !errors.As(err, &bound) {
		t.Errorf("register: %v", err)
	}
	if err := w.workspaces.UpdateCard(t.Context(), w.ws, r.AgentCard); !errors.As(err, &bound) {
		t.Errorf("update: %v", err)
	}
	if _, _, err := w.workspaces.Create(t.Context(), metadata.NewWorkspace{Name: "n", AgentCard: r.AgentCard}, ""); !errors.As(err, &bound) {
		t.Errorf("create: %v", err)
	}
}
