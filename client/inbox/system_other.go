//go:build !linux && !darwin

package inbox

import (
	"errors"
	"os"
	"runtime"
)

const noFollow = 0 // creating exclusively follows no link either

// lock is not to be had for folders here; the journal's lock stands for both.
func lock(*os.File) error { return nil }

// syncHandle has nothing to do where folders cannot be synced.
func syncHandle(dir *os.File) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	if err := dir.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// freeBytes is not known here.
func freeBytes(*os.File) (int64, bool) { return 0, false }
