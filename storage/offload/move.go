package offload

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/internal/linger"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

// move does one row. Failures that may pass are tried again. Into objects a row is
// only copied, and waits for flip.
func (m *Mover) move(ctx context.Context, u metadata.Movable) (c copied, done outcome, err error) {
	var asked bool // for a flip whose answer did not arrive
	err = m.retry(ctx, func() error {
		var err error
		switch m.cfg.Mode {
		case ToRows:
			done, err = m.toRow(ctx, u, &asked)
		case Verify:
			done, err = m.verify(ctx, u)
		default:
			c, done, err = m.copy(ctx, u)
		}
		return err
	})
	if errors.Is(err, storage.ErrCorrupt) {
		m.cfg.Logger.LogAttrs(ctx, slog.LevelError, "content is not what was staged",
			slog.String("workspace_id", u.Workspace.String()), slog.String("file_id", u.File.String()), slog.Any("error", err))
		return c, corrupt, m.retry(ctx, func() error { return m.cfg.Uploads.MarkCorrupt(ctx, u.Workspace, u.File) })
	}
	return c, done, err
}

// copied is a row whose content an object holds too.
type copied struct {
	metadata.ObjectMove
	size int64
}

// copy copies a row's content into an object, and verifies that. The row waits for
// its flip then. storage.ErrCorrupt.
func (m *Mover) copy(ctx context.Context, u metadata.Movable) (copied, outcome, error) {
	c := copied{ObjectMove: metadata.ObjectMove{UploadID: u.UploadID, Key: m.key(u.Workspace, u.File)}, size: u.Size}
	body := &rowBody{ctx: ctx, uploads: m.cfg.Uploads, u: u, hash: sha256.New()}
	if m.cfg.PartBytes > 0 && u.Size > int64(m.cfg.PartBytes) {
		body.parts = newPartHash(m.cfg.PartBytes)
	}
	err := m.cfg.Objects.Put(ctx, c.Key, body, blob.PutOptions{
		ContentType: storage.ObjectMIMEType(u.MIMEType), Shared: true, SHA256: true,
		Digest: func() [sha256.Size]byte { return body.digest() },
	})
	if errors.Is(err, storage.ErrNotFound) {
		done, err := m.wasMoved(ctx, c, false)
		return c, done, err
	}
	if err != nil {
		return c, left, err
	}
	c.SHA256 = body.digest()
	return c, waits, m.check(ctx, c, body.parts.composite())
}

// flipping is a copy on its way into its row.
type flipping struct {
	copied
	lost bool  // a statement whose answer did not arrive may have flipped it
	err  error // the last one
}

// errBusy is a row that somebody else's transaction has locked.
var errBusy = errors.New("its row is locked by another transaction")

// flip has rows cite the copies of their content, in one statement. Those that fail
// are tried again for as long as patience lasts, and those that others have locked
// are set aside for the end of the pass: neither keeps the rest. The error ends the
// run.
func (m *Mover) flip(ctx context.Context, copies ...copied) error {
	return m.flipOpen(ctx, opened(copies), m.setAside)
}

func opened(copies []copied) []*flipping {
	open := make([]*flipping, len(copies))
	for i, c := range copies {
		open[i] = &flipping{copied: c}
	}
	return open
}

// setAside has a row wait for whoever has locked it.
func (m *Mover) setAside(f *flipping) bool {
	m.claiming.Lock()
	defer m.claiming.Unlock()
	m.aside = append(m.aside, f)
	return true
}

// flipOpen is flip; busy takes rows that are locked, if it can. It goes on for a
// moment when ctx ends, so that finished copies are not thrown away.
func (m *Mover) flipOpen(ctx context.Context, open []*flipping, busy func(*flipping) bool) error {
	if len(open) == 0 {
		return nil
	}
	all := len(open)
	lingering, cancel := linger.Context(ctx, releaseTime)
	defer cancel()
	err := m.retry(ctx, func() error {
		open = slices.DeleteFunc(m.flipRound(lingering, open), func(f *flipping) bool {
			return errors.Is(f.err, errBusy) && busy(f)
		})
		if len(open) > 0 {
			return open[len(open)-1].err
		}
		return nil
	})
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("flip %d uploads: %w", len(open), err)
	}
	locked := 0 // says nothing of the database
	for _, f := range open {
		inARow := &m.flipsFailed
		if errors.Is(f.err, errBusy) {
			inARow = &locked
		}
		m.fail(ctx, f.UploadID, f.err, inARow)
	}
	if len(open) < all {
		m.count(func(*Result) { m.flipsFailed = 0 })
	}
	return m.hopeless(&m.flipsFailed)
}

// flipRound tries once: all in one statement, and where one of the rows may have
// failed that, each in one of its own. It returns those that are not done.
func (m *Mover) flipRound(ctx context.Context, open []*flipping) []*flipping {
	failed, err := m.flipOnce(ctx, open...)
	if len(open) == 1 || !metadata.RefusedRow(err) {
		return failed
	}
	failed = nil
	for _, f := range open {
		again, _ := m.flipOnce(ctx, f) // the error is f's
		failed = append(failed, again...)
	}
	return failed
}

// flipOnce is one statement. It returns those that are not done, and the
// statement's error.
func (m *Mover) flipOnce(ctx context.Context, open ...*flipping) (failed []*flipping, err error) {
	moves := make([]metadata.ObjectMove, len(open))
	for i, f := range open {
		moves[i] = f.ObjectMove
	}
	flips, err := m.cfg.Uploads.MoveToObjects(ctx, moves...)
	for _, f := range open {
		done := moved
		f.err = err
		switch {
		case err != nil:
			f.lost = true
		case flips[f.UploadID] == metadata.FlipBusy:
			f.err = errBusy
		case flips[f.UploadID] == metadata.FlipLeft:
			done, f.err = m.wasMoved(ctx, f.copied, f.lost)
		}
		if f.err != nil {
			failed = append(failed, f)
			continue
		}
		m.note(f.UploadID, f.size, done)
	}
	return failed, err
}

// wasMoved is asked about a row that could not be flipped. It removes the copy
// where no row can come to cite it any more: whatever else a row is, a later copy
// may have put the object again, and its flip be on the way.
func (m *Mover) wasMoved(ctx context.Context, c copied, lost bool) (outcome, error) {
	cited, final, err := m.cfg.Uploads.Placement(ctx, c.UploadID)
	switch {
	case err != nil:
		return left, err
	case lost && cited == c.Key:
		return moved, nil
	case cited != "" || !final:
		return left, nil
	}
	ctx, cancel := linger.Context(ctx, releaseTime)
	defer cancel()
	if err := m.cfg.Objects.Delete(ctx, c.Key); err != nil {
		m.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "copy of a row that is gone stays for the orphan sweep",
			slog.String("key", c.Key), slog.Any("error", err))
	}
	return left, nil
}

// errNotStored is an object that is not what was put. It may be the next time.
var errNotStored = errors.New("the object store does not return what was put")

// check holds an object to what was put: by what the store knows of it, and where
// it keeps no SHA-256, or one of parts of another size, by reading it back.
func (m *Mover) check(ctx context.Context, c copied, composite string) error {
	if header, ok := m.cfg.Objects.(blob.Header); ok {
		info, err := header.Head(ctx, c.Key)
		if err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		if info.Size != c.size {
			return fmt.Errorf("%w: object %s has %d bytes, want %d", errNotStored, c.Key, info.Size, c.size)
		}
		if info.SHA256 != nil {
			if *info.SHA256 != c.SHA256 {
				return fmt.Errorf("%w: object %s has another SHA-256", errNotStored, c.Key)
			}
			return nil
		}
		if composite != "" && info.Composite == composite {
			return nil
		}
	}
	n, got, err := m.readObject(ctx, c.Key, io.Discard)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if n != c.size || got != c.SHA256 {
		return fmt.Errorf("%w: object %s has %d bytes, want %d, or another SHA-256", errNotStored, c.Key, n, c.size)
	}
	return nil
}

// readObject copies an object, and returns its size and SHA-256.
func (m *Mover) readObject(ctx context.Context, key string, to io.Writer) (n int64, digest storage.Digest, err error) {
	rc, err := m.cfg.Objects.Open(ctx, key, 0, 0)
	if err != nil {
		return 0, digest, err
	}
	defer func() { _ = rc.Close() }()
	sum := sha256.New()
	n, err = io.Copy(io.MultiWriter(sum, to), rc)
	sum.Sum(digest[:0])
	return n, digest, err
}

// toRow moves the content of an object into the row. The object stays.
// storage.ErrCorrupt.
func (m *Mover) toRow(ctx context.Context, u metadata.Movable, asked *bool) (outcome, error) {
	release, err := m.cfg.Budget.Reserve(ctx, u.Size*staging.InlineCopies)
	if err != nil {
		return left, fmt.Errorf("reserve memory for %d bytes of inline content: %w", u.Size, err)
	}
	defer release()
	content := &fixed{buf: make([]byte, 0, u.Size)}
	digest, err := m.content(ctx, u, content)
	if err != nil && !errors.Is(err, errElsewhere) {
		return left, err
	}
	flipped := false
	if err == nil {
		if flipped, err = m.cfg.Uploads.MoveToRow(ctx, u.UploadID, u.ObjectKey, digest, content.buf); err != nil {
			*asked = true
			return left, err
		}
	}
	if !flipped && *asked {
		cited, final, err := m.cfg.Uploads.Placement(ctx, u.UploadID)
		if err != nil {
			return left, err
		}
		flipped = cited == "" && !final
	}
	if !flipped {
		return left, nil
	}
	return moved, nil
}

// verify reads the object that a row cites. storage.ErrCorrupt.
func (m *Mover) verify(ctx context.Context, u metadata.Movable) (outcome, error) {
	_, err := m.content(ctx, u, io.Discard)
	if errors.Is(err, errElsewhere) {
		return left, nil
	}
	return moved, err
}

// errElsewhere is content that the row does not have in that object any more.
var errElsewhere = errors.New("content lies elsewhere by now")

// content copies what an upload's object holds and holds it to the row:
// storage.ErrCorrupt, if the row cites the object still, else errElsewhere.
func (m *Mover) content(ctx context.Context, u metadata.Movable, to io.Writer) (storage.Digest, error) {
	n, digest, err := m.readObject(ctx, u.ObjectKey, to)
	var fault error
	switch {
	case errors.Is(err, blob.ErrNotFound):
		fault = err
	case errors.Is(err, errTooLong) || err == nil && n != u.Size:
		fault = fmt.Errorf("object %s has not the %d bytes of its row", u.ObjectKey, u.Size)
	case err != nil:
		return digest, err
	case !u.SHA256.IsZero() && digest != u.SHA256:
		fault = fmt.Errorf("object %s has another SHA-256 than its row", u.ObjectKey)
	default:
		return digest, nil
	}
	cited, final, err := m.cfg.Uploads.Placement(ctx, u.UploadID)
	switch {
	case err != nil:
		return digest, err
	case final || cited != u.ObjectKey:
		return digest, errElsewhere
	}
	return digest, fmt.Errorf("%w: %w", storage.ErrCorrupt, fault)
}

// errTooLong is more content than there is room for.
var errTooLong = errors.New("content is longer than its row says")

// fixed is a writer that does not grow.
type fixed struct{ buf []byte }

func (f *fixed) Write(p []byte) (int, error) {
	if len(f.buf)+len(p) > cap(f.buf) {
		return 0, errTooLong
	}
	f.buf = append(f.buf, p...)
	return len(p), nil
}
