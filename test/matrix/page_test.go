package matrix

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// kind is what a transfer was about.
type kind int

const (
	ofSizes kind = iota
	ofNames
	kinds
)

// row is a row of the page: how a file came and how it went.
type row struct{ in, out string }

// rows in the order of the page.
var rows = []row{
	{inMultipart, outProxy},
	{inMultipart, outURL},
	{inMultipart, outRedirect},
	{inDirect, outProxy},
	{inDirect, outURL},
	{inDirect, outRedirect},
}

// table counts what worked, for each row and column.
type table struct {
	mu    sync.Mutex
	count map[row]map[string]*[kinds]int
}

func newTable() *table {
	t := &table{count: map[row]map[string]*[kinds]int{}}
	for _, r := range rows {
		t.count[r] = map[string]*[kinds]int{}
		for _, c := range columns {
			t.count[r][c.name] = new([kinds]int)
		}
	}
	return t
}

func (t *table) worked(r row, column string, of kind) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count[r][column][of]++
}

// String is the table in Markdown.
func (t *table) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	b.WriteString("| In | Out |")
	for _, c := range columns {
		fmt.Fprintf(&b, " %s |", c.name)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s |", r.in, r.out)
		for _, c := range columns {
			n := t.count[r][c.name]
			fmt.Fprintf(&b, " %d of %d sizes, %d of %d names |", n[ofSizes], len(sizes), n[ofNames], len(names))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// The table's place on the page.
const (
	begin = "<!-- made by test/matrix -->\n"
	end   = "<!-- end -->"
)

// isOn wants the page to say exactly this.
func (t *table) isOn(tt *testing.T, page string) {
	tt.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		tt.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), begin)
	got, _, ended := strings.Cut(rest, end)
	if !found || !ended {
		tt.Fatalf("%s has no place for the table, between %q and %q", page, begin, end)
	}
	if want := t.String(); strings.TrimSpace(got) != strings.TrimSpace(want) {
		tt.Errorf("%s has another table than came of the test, which is:\n%s", page, want)
	}
}
