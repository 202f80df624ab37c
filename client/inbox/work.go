package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/storage"
)

// work takes a file as far as it goes. again: it could not be finished, and is
// worth another attempt after the given time.
func (r *run) work(ctx context.Context, id storage.FileID) (after time.Duration, again bool) {
	key := "file " + id.String()
	err := r.advance(ctx, id)
	switch {
	case err == nil:
		r.troubles.solved(ctx, key)
		return 0, false
	case ctx.Err() != nil:
		return 0, true
	case errors.Is(err, client.ErrUnauthorized):
		r.fail(err)
		return 0, true
	case r.expired(ctx, id, err):
		r.troubles.solved(ctx, key)
		return 0, false
	}
	r.telling.Lock()
	r.lastErr = err
	r.telling.Unlock()
	if folder := new(FolderError); errors.As(err, &folder) {
		// One trouble for all files.
		key, err = "folder "+folder.Path, folder
	}
	r.troubles.report(ctx, key, err)
	if answer := new(client.Error); errors.As(err, &answer) {
		after = answer.RetryAfter
	}
	if f, ok := r.journal.fileOf(id); ok && isDamaged(err) {
		after = r.damagedPause << max(f.Damaged-1, 0)
	}
	return after, true
}

// advance moves a file from stage to stage until it is finished.
func (r *run) advance(ctx context.Context, id storage.FileID) error {
	for {
		f, ok := r.journal.fileOf(id)
		if !ok || f.Stage.finished() {
			return nil
		}
		var err error
		switch f.Stage {
		case stagePending:
			err = r.receive(ctx, f)
		case stagePlacing:
			err = r.resolve(ctx, f)
		case stagePlaced:
			err = r.acknowledge(ctx, f)
		}
		if err != nil {
			return err
		}
	}
}

// expired ends the attempts for a file that no service keeps any more; one that is
// in the folder stays there. Only what has just failed expires: clocks go wrong.
func (r *run) expired(ctx context.Context, id storage.FileID, cause error) bool {
	f, ok := r.journal.fileOf(id)
	if !ok || time.Since(f.Seen) <= r.expiry {
		return false
	}
	if f.Stage == stagePlaced {
		r.settle(f)
		return true
	}
	if f.Stage == stagePlacing {
		r.names.free(f.As)
	}
	if folder, err := r.openFolder(); err == nil {
		_ = folder.remove(tempName(id)) // else the next start does
		folder.close()
	}
	r.giveUp(ctx, f, fmt.Errorf("%w: %w", ErrExpired, cause))
	return true
}

// giveUp ends the attempts to receive a file.
func (r *run) giveUp(ctx context.Context, f record, cause error) {
	f.Stage, f.Why = stageGone, cause.Error()
	r.journal.note(line{File: &f})
	r.log.LogAttrs(ctx, slog.LevelWarn, "file given up", slog.String("file_id", f.ID.String()), slog.String("name", f.Name), slog.Any("error", cause))
	file := r.file(f)
	file.Err = cause
	r.tellFile(file)
}

// commit writes a line for good; without success the trouble is that of all files.
func (r *run) commit(ctx context.Context, l line) error {
	if err := r.journal.commit(l); err != nil {
		return folderError(r.cfg.Journal, err)
	}
	r.troubles.solved(ctx, "folder "+r.cfg.Journal)
	return nil
}

func (r *run) flush(ctx context.Context) error {
	if err := r.journal.flush(); err != nil {
		return folderError(r.cfg.Journal, err)
	}
	r.troubles.solved(ctx, "folder "+r.cfg.Journal)
	return nil
}
