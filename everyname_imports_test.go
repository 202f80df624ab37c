package pendinguploads_test

import (
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// newRegistry is for those who may not import Prometheus.
func newRegistry() prometheus.Registerer { return prometheus.NewRegistry() }

// What everyname_test.go uses, a platform has from the root package alone.
func TestEveryNameNeedsOnePackage(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "everyname_test.go", nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var others []string
	for _, i := range file.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") {
			others = append(others, path)
		}
	}
	want := []string{"github.com/google/uuid", "github.com/lib/pq", "github.com/molecule-ai/pendinguploads"}
	if slices.Sort(others); !slices.Equal(others, want) {
		t.Errorf("imports %v, want %v", others, want)
	}
}
