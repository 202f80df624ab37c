package offload

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/internal/linger"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

// move does one row. Failures that may pass are tried again.
func (m *Mover) move(ctx context.Context, u metadata.Movable) (outcome, error) {
	var done outcome
	var asked bool // for a flip whose answer did not arrive
	err := m.retry(ctx, func() error {
		var err error
		switch m.cfg.Mode {
		case ToRows:
			done, err = m.toRow(ctx, u, &asked)
		case Verify:
			done, err = m.verify(ctx, u)
		default:
			done, err = m.toObject(ctx, u, &asked)
		}
		return err
	})
	if errors.Is(err, storage.ErrCorrupt) {
		m.cfg.Logger.LogAttrs(ctx, slog.LevelError, "content is not what was staged",
			slog.String("workspace_id", u.Workspace.String()), slog.String("file_id", u.File.String()), slog.Any("error", err))
		return corrupt, m.retry(ctx, func() error { return m.cfg.Uploads.MarkCorrupt(ctx, u.Workspace, u.File) })
	}
	return done, err
}

// toObject copies a row's content and flips the row. storage.ErrCorrupt.
func (m *Mover) toObject(ctx context.Context, u metadata.Movable, asked *bool) (outcome, error) {
	key := m.key(u.Workspace, u.File)
	body := &rowBody{ctx: ctx, uploads: m.cfg.Uploads, u: u, hash: sha256.New()}
	if m.cfg.PartBytes > 0 && u.Size > int64(m.cfg.PartBytes) {
		body.parts = newPartHash(m.cfg.PartBytes)
	}
	err := m.cfg.Objects.Put(ctx, key, body, blob.PutOptions{
		ContentType: storage.ObjectMIMEType(u.MIMEType), Shared: true, SHA256: true,
	})
	if errors.Is(err, storage.ErrNotFound) {
		return m.wasMoved(ctx, u, key, *asked)
	}
	if err != nil {
		return left, err
	}
	digest := body.digest()
	if err := m.check(ctx, key, u.Size, digest, body.parts.composite()); err != nil {
		return left, err
	}
	flipped, err := m.cfg.Uploads.MoveToObject(ctx, u.UploadID, key, digest)
	if err != nil {
		*asked = true
		return left, err
	}
	if flipped {
		return moved, nil
	}
	return m.wasMoved(ctx, u, key, *asked)
}

// wasMoved is asked about a row that could not be flipped. It removes the copy
// where no row can come to cite it any more: whatever else a row is, a later copy
// may have put the object again, and its flip be on the way.
func (m *Mover) wasMoved(ctx context.Context, u metadata.Movable, key string, asked bool) (outcome, error) {
	cited, final, err := m.cfg.Uploads.Placement(ctx, u.UploadID)
	switch {
	case err != nil:
		return left, err
	case asked && cited == key:
		return moved, nil
	case cited != "" || !final:
		return left, nil
	}
	ctx, cancel := linger.Context(ctx, releaseTime)
	defer cancel()
	if err := m.cfg.Objects.Delete(ctx, key); err != nil {
		m.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "copy of a row that is gone stays for the orphan sweep",
			slog.String("key", key), slog.Any("error", err))
	}
	return left, nil
}

// errNotStored is an object that is not what was put. It may be the next time.
var errNotStored = errors.New("the object store does not return what was put")

// check holds an object to what was put: by what the store knows of it, and where
// it keeps no SHA-256, or one of parts of another size, by reading it back.
func (m *Mover) check(ctx context.Context, key string, size int64, want storage.Digest, composite string) error {
	if header, ok := m.cfg.Objects.(blob.Header); ok {
		info, err := header.Head(ctx, key)
		if err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		if info.Size != size {
			return fmt.Errorf("%w: object %s has %d bytes, want %d", errNotStored, key, info.Size, size)
		}
		if info.SHA256 != nil {
			if *info.SHA256 != want {
				return fmt.Errorf("%w: object %s has another SHA-256", errNotStored, key)
			}
			return nil
		}
		if composite != "" && info.Composite == composite {
			return nil
		}
	}
	n, got, err := m.readObject(ctx, key, io.Discard)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if n != size || got != want {
		return fmt.Errorf("%w: object %s has %d bytes, want %d, or another SHA-256", errNotStored, key, n, size)
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
