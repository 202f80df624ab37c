package blob

import (
	"context"
	"errors"
)

// ErrProbeRemains: the store refuses to remove an object that was made to try
// something, so each further try would leave another one.
var ErrProbeRemains = errors.New("an object made for a trial cannot be removed")

// DirectProber tells what a store makes of presigned puts. Stores implement it
// beside Presigner; those that do not are not known well enough for content that
// somebody else writes.
type DirectProber interface {
	// DirectSupport finds out, with objects that it makes below the key dir and
	// removes. Nothing is known after an error; ErrProbeRemains says that asking
	// again is no good, and ErrUnsupported that there are no presigned requests.
	DirectSupport(ctx context.Context, dir string) (DirectSupport, error)
}

// DirectSupport is what a store makes of presigned puts. The zero value is a store
// that binds nothing.
type DirectSupport struct {
	// Conditional: If-None-Match keeps an object from being replaced.
	Conditional bool

	// Checksum: content of another SHA-256 than the signed one is refused, and a
	// Head tells that of what was taken.
	Checksum bool

	// Taken are the headers, none of them signed, by which the sender can have a
	// presigned put do something else: write other content, or under other keys.
	Taken []string

	// Parts: a presigned part is what was signed, and an object is made of such
	// parts (PartPresigner).
	Parts bool

	// NoParts says why not, for whoever runs the store; "" where Parts is set.
	NoParts string
}

// Safe reports whether a presigned put can be given away: it writes what was
// signed, and nothing else can take the place of what was written.
func (d DirectSupport) Safe() bool {
	return (d.Conditional || d.Checksum) && len(d.Taken) == 0
}

// SafeParts reports whether presigned parts can be given away as well.
func (d DirectSupport) SafeParts() bool { return d.Safe() && d.Parts }
