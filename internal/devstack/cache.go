package devstack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// cacheDir is the folder for programs that are built or downloaded once. It is
// the user's cache, or for root, whose home is closed to the user that
// PostgreSQL runs as, one below /var/tmp.
func cacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if os.Geteuid() == 0 && (err != nil || !openToAll(filepath.Dir(base))) {
		base, err = "/var/tmp", nil
	}
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	dir := filepath.Join(base, "pendinguploads-devstack")
	if base == "/var/tmp" {
		dir = filepath.Join(base, stateFolderName())
	}
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	return dir, privateFolder(dir)
}

// lockPath waits for a lock between processes and returns its release.
func lockPath(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, errors.Join(err, file.Close()))
	}
	return func() { _ = file.Close() }, nil
}
