package inbox

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"github.com/molecule-ai/pendinguploads/client"
)

// folder is an open inbox folder. Names below it never lead out of it, and what
// is done to it is done to the folder that was opened, wherever that is by now.
type folder struct {
	path string
	root *os.Root
	dir  *os.File
	tune tuning
}

func openFolder(path string, tune tuning) (*folder, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, folderError(path, err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, errors.Join(folderError(path, err), root.Close())
	}
	f := &folder{path: path, root: root, dir: dir, tune: tune}
	if err := f.current(); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *folder) close() {
	_ = f.root.Close()
	_ = f.dir.Close()
}

// current reports whether the path still leads here.
func (f *folder) current() error {
	there, err := os.Stat(f.path)
	if err != nil {
		return folderError(f.path, err)
	}
	inRoot, err := f.root.Stat(".")
	if err != nil {
		return folderError(f.path, err)
	}
	here, err := f.dir.Stat()
	if err != nil {
		return folderError(f.path, err)
	}
	if !os.SameFile(there, here) || !os.SameFile(inRoot, here) {
		return folderError(f.path, errReplaced)
	}
	return nil
}

// createTemp makes a new file for writing. One that stands there under its name is
// a leftover, or a trap, and goes.
func (f *folder) createTemp(name string) (*os.File, error) {
	for again := range 2 {
		file, err := f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|noFollow, 0o600)
		switch {
		case err == nil:
			return file, nil
		case again > 0 || !errors.Is(err, fs.ErrExist):
			return nil, err
		}
		if err := f.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, fs.ErrExist
}

// openPart opens the beginning of a file, for at most so many bytes, behind which
// it is cut off; negative: all of them. The digest is that of the bytes. What is
// not a file of its own under the name is not opened: fs.ErrNotExist.
func (f *folder) openPart(name string, most int64) (_ *os.File, size int64, sum hash.Hash, err error) {
	info, err := f.root.Lstat(name)
	if err != nil {
		return nil, 0, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	file, err := f.root.OpenFile(name, os.O_RDWR|noFollow, 0)
	if err != nil {
		return nil, 0, nil, err
	}
	defer func() {
		if err != nil {
			_ = file.Close()
		}
	}()
	opened, err := file.Stat()
	if err != nil {
		return nil, 0, nil, err
	}
	if !os.SameFile(info, opened) {
		return nil, 0, nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	size = opened.Size()
	if most >= 0 {
		size = min(size, most)
	}
	sum = sha256.New()
	if _, err := io.CopyN(sum, file, size); err != nil {
		return nil, 0, nil, err
	}
	return file, size, sum, file.Truncate(size)
}

// partSize is how many bytes a temporary file has.
func (f *folder) partSize(name string) int64 {
	info, err := f.root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() {
		return 0
	}
	return info.Size()
}

func (f *folder) remove(name string) error {
	if err := f.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// exists reports whether anything has the name, a link that leads nowhere too.
func (f *folder) exists(name string) bool {
	_, err := f.root.Lstat(name)
	return err == nil
}

// place gives a file its name unless something has it: fs.ErrExist.
func (f *folder) place(temp, name string) error {
	if !f.tune.linkOnly {
		if err := renameNew(f.dir, temp, name); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	switch err := f.root.Link(temp, name); {
	case err == nil:
		f.tune.step(stepLinked)
		return f.root.Remove(temp)
	case errors.Is(err, fs.ErrExist):
		return err
	}
	// A disk without links, such as a memory stick: between the look and the
	// renaming another program could make a file of this name, and lose it.
	if f.exists(name) {
		return fs.ErrExist
	}
	return f.root.Rename(temp, name)
}

// sync makes the names in the folder last.
func (f *folder) sync() error { return syncHandle(f.dir) }

// received reads a file of the folder. fs.ErrNotExist: there is none, or it is
// not a plain file.
func (f *folder) received(name string) (client.Received, error) {
	var got client.Received
	info, err := f.root.Lstat(name)
	if err != nil {
		return got, err
	}
	if !info.Mode().IsRegular() {
		return got, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	file, err := f.root.OpenFile(name, os.O_RDONLY|noFollow, 0)
	if err != nil {
		return got, err
	}
	defer func() { _ = file.Close() }()
	sum := sha256.New()
	if got.Size, err = io.Copy(sum, file); err != nil {
		return got, err
	}
	sum.Sum(got.SHA256[:0])
	return got, nil
}

// clean removes what an earlier run left half written, but for the names to keep.
func (f *folder) clean(keep map[string]bool) error {
	names, err := f.dir.Readdirnames(-1)
	if err != nil {
		return folderError(f.path, err)
	}
	for _, name := range names {
		if isTemp(name) && !keep[name] {
			if err := f.remove(name); err != nil {
				return folderError(f.path, err)
			}
		}
	}
	return nil
}

// syncDir makes the names in a folder last.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return syncHandle(dir)
}
