package inbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/storage"
)

var (
	// ErrUnfinished is how a Run with Follow.Once ends that had to leave files
	// behind: the next one fetches them.
	ErrUnfinished = errors.New("files are left for the next run")
	// ErrInUse is how Run ends where another inbox has the journal or the folder.
	ErrInUse = errors.New("another inbox uses it")
	// ErrExpired is the File.Err of a file that could not be received for so long
	// that no service keeps it.
	ErrExpired = errors.New("not received within a week")
	// ErrWrongSize is a file whose content has another size than was announced.
	ErrWrongSize = errors.New("the content has another size than was announced")
	// errReplaced is a folder that is not the one that its path leads to any more.
	errReplaced = errors.New("it was moved away")
)

// FeedError is how Run ends where the feed does: the service refuses for good, or,
// with Follow.Once, did not answer for as long as the client has patience.
type FeedError struct{ Err error }

func (e *FeedError) Error() string { return "feed: " + e.Err.Error() }
func (e *FeedError) Unwrap() error { return e.Err }

// FolderError is a folder, or a journal, that cannot be written to for now.
type FolderError struct {
	Path string
	Err  error
}

func (e *FolderError) Error() string { return e.Path + ": " + e.Err.Error() + e.hint() }
func (e *FolderError) Unwrap() error { return e.Err }

func (e *FolderError) hint() string {
	switch {
	case errors.Is(e.Err, fs.ErrNotExist), errors.Is(e.Err, errReplaced):
		return " (nothing is received until it is back)"
	case errors.Is(e.Err, syscall.EROFS), errors.Is(e.Err, fs.ErrPermission):
		return " (nothing is received until it is writable)"
	}
	return ""
}

func folderErrorOrNil(path string, err error) error {
	if err == nil {
		return nil
	}
	return folderError(path, err)
}

// folderError makes a FolderError whose text does not vary with the file that was
// touched.
func folderError(path string, err error) error {
	var inner *FolderError
	if errors.As(err, &inner) {
		return err
	}
	var pathErr *fs.PathError
	var linkErr *os.LinkError
	switch {
	case errors.As(err, &pathErr):
		err = pathErr.Err
	case errors.As(err, &linkErr):
		err = linkErr.Err
	}
	return &FolderError{Path: path, Err: err}
}

// SpaceError is a file for which the disk has no room for now.
type SpaceError struct {
	ID   storage.FileID
	Name string // as announced
	Need int64  // bytes, with what must stay free
	Free int64  // bytes; negative: unknown
}

func (e *SpaceError) Error() string {
	text := fmt.Sprintf("file %v (%q): no space on the disk: it needs %d bytes", e.ID, e.Name, e.Need)
	if e.Free >= 0 {
		text += fmt.Sprintf(", %d are free", e.Free)
	}
	return text
}

// Is makes it ENOSPC for errors.Is.
func (e *SpaceError) Is(target error) bool { return target == syscall.ENOSPC }

// isFull reports that a disk, a quota or a limit on sizes is full.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) || isFullHere(err)
}

// kind is what an error has in common with the next one of the same cause.
func kind(err error) string {
	var folder *FolderError
	var space *SpaceError
	var answer *client.Error
	switch {
	case errors.As(err, &folder):
		return folder.Error()
	case errors.As(err, &space):
		return "space"
	case errors.As(err, &answer):
		return fmt.Sprintf("status %d", answer.Status)
	case isDamaged(err):
		return "content"
	case client.Temporary(err):
		return "network"
	}
	return err.Error()
}
