package inbox_test

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// confine takes from the process what its settings say.
func (s childSettings) confine() error {
	if s.UID != 0 {
		if err := syscall.Setgid(s.UID); err != nil {
			return fmt.Errorf("setgid: %w", err)
		}
		if err := syscall.Setuid(s.UID); err != nil {
			return fmt.Errorf("setuid: %w", err)
		}
	}
	if s.MaxFile == 0 {
		return nil
	}
	// No file may grow any larger, as on a full disk, until a line comes in.
	signal.Ignore(syscall.SIGXFSZ)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	before := limit
	limit.Cur = s.MaxFile
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	go func() {
		if bufio.NewScanner(os.Stdin).Scan() {
			_ = unix.Setrlimit(unix.RLIMIT_FSIZE, &before)
		}
	}()
	return nil
}
