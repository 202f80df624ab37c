package e2e

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/internal/servertest"
)

func TestMain(m *testing.M) {
	zerolog.SetGlobalLevel(zerolog.Disabled) // the proxy's trouble logs every chunk
	servertest.Main(m, func() error {
		// The proxy leaves what it has of a connection behind when it is cut.
		return goleak.Find(
			goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"),
			goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).write"),
			goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"),
		)
	})
}

// sums are the files that were sent: name to SHA-256. Names are unique.
type sums struct {
	mu   sync.Mutex
	next int
	want map[string][sha256.Size]byte
}

func newSums() *sums { return &sums{want: map[string][sha256.Size]byte{}} }

// file makes a file of n random bytes.
func (s *sums) file(random *rand.Rand, n int) client.File {
	content := make([]byte, n)
	for i := range content {
		content[i] = byte(random.Uint32())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	name := fmt.Sprintf("file-%04d.bin", s.next)
	s.want[name] = sha256.Sum256(content)
	return client.File{Name: name, MIMEType: "application/octet-stream", Size: int64(n), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}}
}

// check reports every file that can be seen in dir and is not whole, and returns
// the names that are there.
func (s *sums) check(t *testing.T, dir string) map[string]bool {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		want, known := s.want[e.Name()]
		s.mu.Unlock()
		if !known || sha256.Sum256(content) != want {
			t.Errorf("%s is visible with %d bytes that nobody sent", e.Name(), len(content))
		}
		there[e.Name()] = true
	}
	return there
}

// missing reports what was sent and is not there.
func (s *sums) missing(t *testing.T, there map[string]bool, optional map[string]bool) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.want {
		if !there[name] && !optional[name] {
			t.Errorf("%s was lost", name)
		}
	}
}

// acked counts rows by whether they are acknowledged.
func acked(t *testing.T, database string) (acked, unacked int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	const count = `SELECT count(*) FILTER (WHERE acked_at IS NOT NULL), count(*) FILTER (WHERE acked_at IS NULL) FROM pending_uploads`
	if err := conn.QueryRow(t.Context(), count).Scan(&acked, &unacked); err != nil {
		t.Fatal(err)
	}
	return acked, unacked
}

// testLogger logs what a test shows when it fails.
func testLogger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

func newRandom() *rand.Rand { return rand.New(rand.NewPCG(7, 11)) } //nolint:gosec // test data
