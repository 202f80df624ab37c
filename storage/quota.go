package storage

import (
	"errors"
	"fmt"
)

// ErrQuota: the workspace has as much staged as it may have. See QuotaError.
var ErrQuota = errors.New("workspace quota exceeded")

// Usage is how much is staged, or is to be.
type Usage struct {
	Bytes int64
	Files int64
}

// Quota bounds what a workspace may have staged at one time: its uploads that are
// neither acked nor expired. 0: no bound.
type Quota struct {
	Bytes int64
	Files int64
}

// Validate reports the first bound that cannot be meant, by its configuration
// name: one below 0, and one below the per-file cap, at which a file that the
// limits allow could never be staged.
func (q Quota) Validate(l Limits) error {
	switch {
	case q.Bytes < 0 || q.Bytes > 0 && q.Bytes < l.MaxFileBytes:
		return fmt.Errorf("WORKSPACE_MAX_BYTES is %d, want 0 for no quota, or MAX_FILE_BYTES (%d) or more", q.Bytes, l.MaxFileBytes)
	case q.Files < 0:
		return fmt.Errorf("WORKSPACE_MAX_FILES is %d, want 0 for no quota, or more", q.Files)
	}
	return nil
}

// Check reports whether adding is too much on top of used: a *QuotaError. Exactly
// the quota is allowed.
func (q Quota) Check(used, adding Usage) error {
	// Not as sums, which could overflow.
	if q.Bytes > 0 && used.Bytes > q.Bytes-adding.Bytes || q.Files > 0 && used.Files > q.Files-adding.Files {
		return &QuotaError{Used: used, Adding: adding, Max: q}
	}
	return nil
}

// QuotaError is ErrQuota with the numbers.
type QuotaError struct {
	Used   Usage // what is staged
	Adding Usage // what was to be added; before it is read, the least that it can be
	Max    Quota
}

func (e *QuotaError) Error() string {
	text := fmt.Sprintf("%v: %d bytes in %d files wait, %d bytes in %d files more", ErrQuota, e.Used.Bytes, e.Used.Files, e.Adding.Bytes, e.Adding.Files)
	if e.Max.Bytes > 0 {
		text += fmt.Sprintf(", limit %d bytes", e.Max.Bytes)
	}
	if e.Max.Files > 0 {
		text += fmt.Sprintf(", limit %d files", e.Max.Files)
	}
	return text
}

// Is makes it ErrQuota for errors.Is.
func (e *QuotaError) Is(target error) bool { return target == ErrQuota }
