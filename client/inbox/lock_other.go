//go:build !windows && !linux && !darwin

package inbox

import "os"

// openLock opens a file; locks are not to be had here.
func openLock(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) }

// isFullHere has nothing to add to what all systems say.
func isFullHere(error) bool { return false }

// release gives a lock back.
func release(f *os.File) { _ = f.Close() }
