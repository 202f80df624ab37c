package storage

import (
	"fmt"
	"time"
)

const (
	// MiB is 1,048,576 bytes.
	MiB = 1 << 20

	// MaxFilenameBytes is the longest file name a row holds: the check of the
	// pending_uploads table (contract 4.1) and what SanitizeFilename cuts to.
	MaxFilenameBytes = 100

	// MaxFilesPerBatch is the most files one request may carry (contract 2.4.1).
	MaxFilesPerBatch = 64

	// DefaultMaxFileBytes is the per-file cap where nothing else is configured:
	// both released pollers drop files above it (contract annex, "25 or 100 MiB").
	DefaultMaxFileBytes = 25 * MiB

	// DefaultMaxRequestBytes is the cap of a whole upload request (contract 2.4).
	DefaultMaxRequestBytes = 50 * MiB

	// MaxFileBytesCeiling is the highest per-file cap that can be configured; the
	// table's size check pins it.
	MaxFileBytesCeiling = 100 * MiB

	// AdvisedFilesPerMessage is what /uploads/limits tells clients to keep to
	// (contract 2.13). Advice; MaxFilesPerBatch is enforced.
	AdvisedFilesPerMessage = 10

	// DefaultTTL is how long an upload waits to be acked before it expires.
	DefaultTTL = 24 * time.Hour

	// DefaultAckRetention is how long an acked row stays before it is swept.
	DefaultAckRetention = time.Hour

	// DefaultSweepInterval is the time between two sweeps (contract 9.3).
	DefaultSweepInterval = 5 * time.Minute

	// DefaultKeyPrefix is what object keys begin with where nothing else is
	// configured: PREFIX/WORKSPACE/FILE.
	DefaultKeyPrefix = "pending-uploads"

	// DefaultOrphanGrace is the age below which an object without a row is left
	// alone: its upload may still be running. It must exceed the longest upload.
	DefaultOrphanGrace = time.Hour
)

// Limits are the caps that one deployment enforces and announces: the same
// value feeds the upload handler, the store, GET /uploads/limits and the docs.
type Limits struct {
	MaxFileBytes    int64 // one file, in bytes
	MaxRequestBytes int64 // one upload request with its multipart framing, in bytes
}

// DefaultLimits returns 25 MiB per file and 50 MiB per request.
func DefaultLimits() Limits {
	return Limits{MaxFileBytes: DefaultMaxFileBytes, MaxRequestBytes: DefaultMaxRequestBytes}
}

// Validate reports the first limit that cannot be enforced, by its
// configuration name.
func (l Limits) Validate() error {
	if l.MaxFileBytes < 1 || l.MaxFileBytes > MaxFileBytesCeiling {
		return fmt.Errorf("MAX_FILE_BYTES is %d, want 1 to %d", l.MaxFileBytes, MaxFileBytesCeiling)
	}
	if l.MaxRequestBytes <= l.MaxFileBytes {
		return fmt.Errorf("MAX_REQUEST_BYTES is %d, want more than MAX_FILE_BYTES (%d): multipart framing needs room, and an oversize file could not be told by name", l.MaxRequestBytes, l.MaxFileBytes)
	}
	return nil
}

// CheckUpload holds a whole file to the rules of Put, in their order (contract
// 3.1): ErrEmpty, ErrTooLarge, ErrInvalidFilename.
func (l Limits) CheckUpload(size int64, filename string) error {
	switch {
	case size <= 0:
		return ErrEmpty
	case size > l.MaxFileBytes:
		return &TooLargeError{Size: size, Max: l.MaxFileBytes}
	}
	return CheckFilename(filename)
}

// CheckFilename reports a name that no row can hold: ErrInvalidFilename.
func CheckFilename(name string) error {
	if n := len(name); n == 0 || n > MaxFilenameBytes {
		return fmt.Errorf("%w: %d bytes, want 1 to %d", ErrInvalidFilename, n, MaxFilenameBytes)
	}
	return nil
}
