package servertest

import (
	"encoding/binary"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Watch reports what dir shows from now until the test ends, in order and without
// a gap, as the kernel tells it. Hidden names are left out.
func Watch(tb testing.TB, dir string) <-chan Sight {
	tb.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_MODIFY|unix.IN_ONLYDIR); err != nil {
		_ = unix.Close(fd)
		tb.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "inotify") // its reads end when it is closed
	sights, ended := make(chan Sight, 16), make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(sights)
		buf := make([]byte, 64<<10)
		for {
			n, err := f.Read(buf)
			if err != nil {
				return
			}
			now := time.Now()
			for rest := buf[:n]; len(rest) >= unix.SizeofInotifyEvent; {
				mask := binary.NativeEndian.Uint32(rest[4:8])
				length := binary.NativeEndian.Uint32(rest[12:16])
				name := strings.TrimRight(string(rest[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+length]), "\x00")
				rest = rest[unix.SizeofInotifyEvent+length:]
				if mask&unix.IN_Q_OVERFLOW != 0 {
					tb.Errorf("%s showed more than the kernel could remember", dir)
					return
				}
				if name == "" || strings.HasPrefix(name, ".") {
					continue
				}
				select {
				case sights <- Sight{Name: name, At: now, Written: mask&unix.IN_MODIFY != 0}:
				case <-ended:
					return
				}
			}
		}
	})
	tb.Cleanup(func() {
		close(ended)
		_ = f.Close()
		reading.Wait()
	})
	return sights
}
