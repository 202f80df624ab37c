package inbox

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// renameNew renames within a folder unless the new name is taken: fs.ErrExist.
// errors.ErrUnsupported where the disk cannot do that.
func renameNew(dir *os.File, from, to string) error {
	raw, err := dir.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	err = raw.Control(func(fd uintptr) {
		done = unix.Renameat2(int(fd), from, int(fd), to, unix.RENAME_NOREPLACE)
	})
	if err != nil {
		return err
	}
	if errors.Is(done, unix.EINVAL) || errors.Is(done, unix.ENOSYS) || errors.Is(done, unix.ENOTSUP) {
		return errors.ErrUnsupported
	}
	if done != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: done}
	}
	return nil
}
