package staging

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/storage"
)

const (
	// probeDir is where the object store is tried, below the prefix. No key of a
	// file has that shape.
	probeDir = ".doctor"

	// supportTime bounds the question what the object store supports, whatever
	// becomes of the reservation that asked it.
	supportTime = 10 * time.Second

	// supportPause is how long nobody asks again after it got no answer.
	supportPause = time.Minute
)

// directSupport asks once what the object store makes of presigned puts, for all
// reservations. They go nowhere until it is known: a store that lets their
// holders do more than what was signed would give them everybody's files.
type directSupport struct {
	dir string
	now func() time.Time
	log *slog.Logger

	mu     sync.Mutex    // never held while the store is asked
	asking chan struct{} // closed when the question under way is over; nil: none is
	answer *supportAnswer
}

// supported is what reservations may make use of.
type supported struct {
	conditional bool // presigned puts can be kept from replacing what is there
	parts       bool // presigned parts can be given away
}

// supportAnswer is what the last question led to.
type supportAnswer struct {
	supported
	err   error     // why there are no direct uploads
	until time.Time // when to ask again; zero: never
}

// support tells what can be given away. The error wraps storage.ErrNoDirect where
// no presigned put can, and ctx's where that ended first.
func (d *directSupport) support(ctx context.Context, objects blob.DirectProber) (supported, error) {
	for {
		d.mu.Lock()
		if a := d.answer; a != nil && (a.until.IsZero() || d.now().Before(a.until)) {
			d.mu.Unlock()
			return a.supported, a.err
		}
		if d.asking == nil {
			d.asking = make(chan struct{})
			go d.ask(context.WithoutCancel(ctx), objects, d.asking)
		}
		asking := d.asking
		d.mu.Unlock()
		select {
		case <-asking:
		case <-ctx.Done():
			return supported{}, context.Cause(ctx)
		}
	}
}

// ask asks for all who wait, and takes no notice of one that leaves.
func (d *directSupport) ask(ctx context.Context, objects blob.DirectProber, done chan<- struct{}) {
	ctx, cancel := context.WithTimeout(ctx, supportTime)
	defer cancel()
	found, err := objects.DirectSupport(ctx, d.dir)
	answer := d.judge(ctx, found, err)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer, d.asking = answer, nil
	close(done)
}

// judge tells the log, once for each question, why there are no direct uploads.
func (d *directSupport) judge(ctx context.Context, found blob.DirectSupport, err error) *supportAnswer {
	warn := func(why string, attrs ...slog.Attr) {
		d.log.LogAttrs(ctx, slog.LevelWarn, "direct uploads are refused: "+why, attrs...)
	}
	switch {
	case errors.Is(err, blob.ErrProbeRemains):
		warn("objects made to try the store cannot be removed (policy: allow s3:DeleteObject and s3:AbortMultipartUpload), and no more are made", slog.Any("error", err))
		return &supportAnswer{err: fmt.Errorf("%w: %w", storage.ErrNoDirect, err)}
	case errors.Is(err, blob.ErrUnsupported):
		return &supportAnswer{err: fmt.Errorf("%w: %w", storage.ErrNoDirect, err)}
	case err != nil:
		warn("nobody can tell what the object store makes of presigned puts", slog.Any("error", err), slog.Duration("ask_again_in", supportPause))
		return &supportAnswer{err: fmt.Errorf("%w: %w", storage.ErrNoDirect, err), until: d.now().Add(supportPause)}
	case len(found.Taken) > 0:
		headers := strings.ToLower(strings.Join(found.Taken, ", "))
		warn("by headers that are not signed a presigned put reaches other objects of the bucket; deny the service's identity s3:PutObject with s3:x-amz-copy-source and on keys that end in a slash (policy in docs/direct.md), and start again",
			slog.String("headers", headers))
		return &supportAnswer{err: fmt.Errorf("%w: the object store heeds %s though they are not signed", storage.ErrNoDirect, headers)}
	case !found.Safe():
		warn("the object store neither compares and tells SHA-256 nor has conditional writes")
		return &supportAnswer{err: fmt.Errorf("%w: the object store binds no content", storage.ErrNoDirect)}
	}
	if found.NoParts != "" {
		d.log.LogAttrs(ctx, slog.LevelInfo, "direct uploads take one request a file, whatever its size", slog.String("why", found.NoParts))
	}
	return &supportAnswer{supported: supported{conditional: found.Conditional, parts: found.SafeParts()}}
}
