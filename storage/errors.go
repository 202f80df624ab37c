package storage

import (
	"errors"
	"fmt"
)

// Sentinels. Every error of this module's packages that a caller can act on
// wraps one of them; compare with errors.Is.
var (
	// ErrNotFound: no such pending upload, or it belongs to another workspace,
	// is expired, acked (unless readable after ack) or being swept. All look
	// alike on purpose (promise 8).
	ErrNotFound = errors.New("pending upload not found")

	// ErrTooLarge: a file is above the per-file cap. See TooLargeError.
	ErrTooLarge = errors.New("file exceeds per-file cap")

	// ErrEmpty: a file has no bytes. The table forbids size 0.
	ErrEmpty = errors.New("file is empty")

	// ErrInvalidFilename: a file name is empty or above MaxFilenameBytes.
	ErrInvalidFilename = errors.New("invalid filename")

	// ErrTooManyFiles: a batch has more than MaxFilesPerBatch files.
	ErrTooManyFiles = errors.New("too many files")

	// ErrInvalidID: text that should be a UUID is not one.
	ErrInvalidID = errors.New("invalid id")

	// ErrBusy: the byte budget for uploads stayed exhausted for the whole wait.
	// Nothing was stored; the same call may succeed later.
	ErrBusy = errors.New("upload memory budget exhausted")

	// ErrWorkspaceNotFound: the workspace that should receive the files does
	// not exist (any more). Only stores that announce files in a feed know.
	ErrWorkspaceNotFound = errors.New("workspace not found")

	// ErrRange: the requested range lies outside the content.
	ErrRange = errors.New("range not satisfiable")

	// ErrCorrupt: the stored content of a live upload is not what was staged: it is
	// missing, ends early or is something else.
	ErrCorrupt = errors.New("stored content is not what was staged")

	// ErrNoURL: the content has no URL of its own; it can be opened all the same.
	ErrNoURL = errors.New("content has no URL")
)

// FileError says which file of a batch an error is about.
type FileError struct {
	Index    int    // position in the batch, from 0
	Filename string // as given by the caller
	Err      error
}

func (e *FileError) Error() string {
	return fmt.Sprintf("file %d (%q): %v", e.Index, e.Filename, e.Err)
}

func (e *FileError) Unwrap() error { return e.Err }

// TooLargeError is ErrTooLarge with the numbers.
type TooLargeError struct {
	Size int64 // bytes seen before reading stopped; at least Max+1
	Max  int64 // the cap in bytes
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("%v: at least %d bytes, limit %d", ErrTooLarge, e.Size, e.Max)
}

// Is makes it ErrTooLarge for errors.Is.
func (e *TooLargeError) Is(target error) bool { return target == ErrTooLarge }
