//go:build linux || darwin

package inbox

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

const noFollow = unix.O_NOFOLLOW

// lock takes the lock of an open file or folder, for as long as it is open:
// ErrInUse where somebody has it. A disk that knows no locks is trusted.
func lock(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	if err := raw.Control(func(fd uintptr) { done = unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB) }); err != nil {
		return err
	}
	if errors.Is(done, unix.EWOULDBLOCK) {
		return ErrInUse
	}
	return nil
}

// release gives a lock back and closes its file. Closing alone is not enough: a
// process that is just being forked holds a copy of every open file for a moment.
func release(f *os.File) {
	if raw, err := f.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.Flock(int(fd), unix.LOCK_UN) })
	}
	_ = f.Close()
}

// openLock opens a file and takes its lock.
func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|noFollow, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		return nil, errors.Join(&os.PathError{Op: "lock", Path: path, Err: err}, f.Close())
	}
	return f, nil
}

// syncHandle makes the names in a folder last. Disks that cannot are trusted.
func syncHandle(dir *os.File) error {
	err := dir.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return err
}

// freeBytes is what a program may still write to the folder's disk.
func freeBytes(dir *os.File) (free int64, known bool) {
	raw, err := dir.SyscallConn()
	if err != nil {
		return 0, false
	}
	var disk unix.Statfs_t
	var done error
	if err := raw.Control(func(fd uintptr) { done = unix.Fstatfs(int(fd), &disk) }); err != nil || done != nil {
		return 0, false
	}
	return int64(disk.Bavail * uint64(disk.Bsize)), true
}

// isFullHere has nothing to add to what all systems say.
func isFullHere(error) bool { return false }
