package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/internal/servertest"
)

// sums are the files that were sent: name to SHA-256. Names are unique.
type sums struct {
	mu   sync.Mutex
	want map[string][sha256.Size]byte
}

func newSums() *sums { return &sums{want: map[string][sha256.Size]byte{}} }

// file makes a file of n random bytes.
func (s *sums) file(random *rand.Rand, n int) client.File {
	content := make([]byte, 0, n+8)
	for len(content) < n {
		content = binary.LittleEndian.AppendUint64(content, random.Uint64())
	}
	content = content[:n]
	s.mu.Lock()
	defer s.mu.Unlock()
	name := fmt.Sprintf("file-%04d.bin", len(s.want)+1)
	s.want[name] = sha256.Sum256(content)
	return client.File{Name: name, MIMEType: "application/octet-stream", Size: int64(n), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}}
}

// some are one to three files, small or of more than one read.
func (s *sums) some(random *rand.Rand) []client.File {
	var files []client.File
	for range 1 + random.IntN(3) {
		size := 1 + random.IntN(8<<10)
		if random.IntN(4) == 0 {
			size = 1 + random.IntN(4<<20)
		}
		files = append(files, s.file(random, size))
	}
	return files
}

// count is how many files were made.
func (s *sums) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.want)
}

// whole reports a file in dir that is not what was sent under its name.
func (s *sums) whole(t *testing.T, dir, name string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Errorf("%s appeared and cannot be read: %v", name, err)
		return
	}
	s.mu.Lock()
	want, known := s.want[name]
	s.mu.Unlock()
	if !known || sha256.Sum256(content) != want {
		t.Errorf("%s is visible with %d bytes that nobody sent", name, len(content))
	}
}

// missing reports what was sent and is not there.
func (s *sums) missing(t *testing.T, there, optional map[string]bool) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.want {
		if !there[name] && !optional[name] {
			t.Errorf("%s was lost", name)
		}
	}
}

// lastSight is the name that ends a watch.
const lastSight = "the-watch-ends"

// watched is a folder in which every file is looked at when it becomes visible.
type watched struct {
	dir  string
	sums *sums
	done chan struct{}
	seen map[string]bool // once done is closed
}

// watch makes dir and looks at it from now on: each file must be whole in the moment
// it becomes visible, come once, and never be written to again.
func (s *sums) watch(t *testing.T, dir string) *watched {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w := &watched{dir: dir, sums: s, done: make(chan struct{}), seen: map[string]bool{}}
	sights := servertest.Watch(t, dir)
	go func() {
		defer close(w.done)
		for sight := range sights {
			switch {
			case sight.Name == lastSight:
				return
			case sight.Written:
				t.Errorf("%s was written to while it was visible", sight.Name)
			case w.seen[sight.Name]:
				t.Errorf("%s appeared a second time", sight.Name)
			default:
				w.seen[sight.Name] = true
				s.whole(t, dir, sight.Name)
			}
		}
	}()
	return w
}

// halfway reports that a file is there in part, under a hidden name.
func (w *watched) halfway(t *testing.T) bool {
	t.Helper()
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return strings.HasPrefix(e.Name(), ".") })
}

// end looks at everything that was shown until now, and returns the names that are
// there: all that were seen, still whole, and no others.
func (w *watched) end(t *testing.T) map[string]bool {
	t.Helper()
	mark, err := os.Create(filepath.Join(w.dir, lastSight))
	if err != nil {
		t.Fatal(err)
	}
	_ = mark.Close()
	<-w.done
	if err := os.Remove(mark.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("%s was left behind", e.Name())
			continue
		}
		there[e.Name()] = true
		w.sums.whole(t, w.dir, e.Name())
		if !w.seen[e.Name()] {
			t.Errorf("%s is there and never appeared", e.Name())
		}
	}
	for name := range w.seen {
		if !there[name] {
			t.Errorf("%s appeared and has vanished", name)
		}
	}
	return there
}
