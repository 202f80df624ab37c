//go:build !linux

package servertest

import (
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// lookEvery is the time between two looks at a watched folder.
const lookEvery = 2 * time.Millisecond

// Watch reports what dir shows from now until the test ends, in order, as far as a
// look every 2 ms shows it. Hidden names are left out.
func Watch(tb testing.TB, dir string) <-chan Sight {
	tb.Helper()
	seen := map[string]os.FileInfo{}
	look := func(tell func(Sight) bool) bool {
		entries, err := os.ReadDir(dir)
		if err != nil {
			tb.Errorf("look at %s: %v", dir, err)
			return false
		}
		now := time.Now()
		for _, e := range entries {
			info, err := e.Info()
			if err != nil || strings.HasPrefix(e.Name(), ".") {
				continue
			}
			before, known := seen[e.Name()]
			seen[e.Name()] = info
			written := known && (before.Size() != info.Size() || !before.ModTime().Equal(info.ModTime()))
			if (!known || written) && !tell(Sight{Name: e.Name(), At: now, Written: written}) {
				return false
			}
		}
		return true
	}
	if !look(func(Sight) bool { return true }) {
		tb.FailNow()
	}
	sights, ended := make(chan Sight, 16), make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		defer close(sights)
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		tell := func(s Sight) bool {
			select {
			case sights <- s:
				return true
			case <-ended:
				return false
			}
		}
		for {
			select {
			case <-tick.C:
			case <-ended:
				return
			}
			if !look(tell) {
				return
			}
		}
	})
	tb.Cleanup(func() {
		close(ended)
		looking.Wait()
	})
	return sights
}
