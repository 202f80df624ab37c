package adopting

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The table's place on the page.
const (
	page  = "../../docs/adopting.md"
	begin = "<!-- made by test/adopting -->\n"
	end   = "<!-- end -->"
)

// results are the cells of the table: what came of each way in which it was tried.
type results struct {
	mu    sync.Mutex
	cells map[[2]string][]string
}

func (r *results) add(operation, column, outcome string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	cell := [2]string{operation, column}
	if r.cells == nil {
		r.cells = map[[2]string][]string{}
	}
	if !slices.Contains(r.cells[cell], outcome) {
		r.cells[cell] = append(r.cells[cell], outcome)
	}
}

// String is the table in Markdown.
func (r *results) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	b.WriteString("| |")
	for _, c := range columns {
		fmt.Fprintf(&b, " %s |", c.name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, o := range operations {
		fmt.Fprintf(&b, "| %s |", o.name)
		for _, c := range columns {
			fmt.Fprintf(&b, " %s |", strings.Join(r.cells[[2]string{o.name, c.name}], " / "))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// isOnThePage wants the page to say exactly this.
func (r *results) isOnThePage(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), begin)
	got, _, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no place for the table, between %q and %q", page, begin, end)
	}
	if want := r.String(); strings.TrimSpace(got) != strings.TrimSpace(want) {
		t.Errorf("%s has another table than came of the test, which is:\n%s", page, want)
	}
}
