package inbox

import (
	"context"
	"errors"
	"log/slog"

	"github.com/molecule-ai/pendinguploads/client"
)

// mostMismatches is how often the service may refuse a file's content before the
// file is given up.
const mostMismatches = 3

// acknowledge tells the service what is in the folder.
func (r *run) acknowledge(ctx context.Context, f record) error {
	// What the service may forget must be on the disk here.
	if err := r.flush(ctx); err != nil {
		return err
	}
	got := f.received()
	_, err := r.cfg.Client.Ack(ctx, f.ID, &got)
	switch {
	case errors.Is(err, client.ErrContentMismatch):
		return r.retract(ctx, f, err)
	case errors.Is(err, client.ErrNotFound):
		r.log.LogAttrs(ctx, slog.LevelInfo, "acked already, or expired; the file stays", slog.String("file_id", f.ID.String()), slog.String("name", f.As))
	case err != nil:
		r.here(f)
		return err
	}
	r.step(stepAcked)
	r.settle(f)
	return nil
}

// settle ends the work on a file that is in the folder. It is told of before that is
// written down: whoever dies in between is told of it again.
func (r *run) settle(f record) {
	r.here(f)
	f.Stage = stageAcked
	r.journal.note(line{File: &f})
	r.step(stepAckJournalled)
	r.forget(f)
}

// retract removes a file that is not what was staged, to fetch it again.
func (r *run) retract(ctx context.Context, f record, cause error) error {
	folder, err := r.openFolder()
	if err != nil {
		return err
	}
	defer folder.close()
	// What somebody put in its place since is theirs.
	if got, err := folder.received(f.As); err == nil && got == f.received() {
		if err := folder.remove(f.As); err != nil {
			return folderError(r.cfg.Dir, err)
		}
	}
	r.forget(f)
	pending := f.back()
	pending.Mismatches++
	r.journal.note(line{File: &pending})
	r.log.LogAttrs(ctx, slog.LevelWarn, "the service refuses the content", slog.String("file_id", f.ID.String()), slog.Int("times", pending.Mismatches))
	if pending.Mismatches >= mostMismatches {
		r.giveUp(ctx, pending, cause)
	}
	return nil
}
