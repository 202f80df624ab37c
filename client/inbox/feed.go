package inbox

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/storage"
)

// methodDelegateResult is the one method whose rows with the workspace's own id
// as source are for it (contract 7.1).
const methodDelegateResult = "delegate_result"

// largestSize bounds the size that a row may announce, so that sums of sizes stay
// in their type: 1 PiB.
const largestSize = 1 << 50

// longestDrain is what the sizes of files may add to Config.DrainTimeout.
const longestDrain = 24 * time.Hour

// follow works through the feed, row by row.
func (r *run) follow(parent context.Context) error {
	ctx, cancel := context.WithCancel(parent)
	ahead := newAhead()
	var reading sync.WaitGroup
	reading.Go(func() { r.read(ctx, ahead) })
	defer reading.Wait()
	defer cancel()
	for e := range ahead.entries {
		if parent.Err() != nil {
			break
		}
		if err := r.turn(ctx, e); err != nil {
			return err
		}
		ahead.bytes.Release(e.weight)
	}
	if parent.Err() != nil {
		return context.Cause(parent)
	}
	return nil
}

// turn is an entry's turn.
func (r *run) turn(ctx context.Context, e entry) error {
	switch {
	case e.err != nil:
		return e.err
	case e.reset:
		r.journal.note(line{Reset: true})
		return nil
	case e.old:
		r.pass(e.row)
		return nil
	}
	return r.row(ctx, e)
}

// row does what a row asks for, and moves the cursor behind it.
func (r *run) row(ctx context.Context, e entry) error {
	switch {
	case method(e.row) == wire.MethodChatUpload, r.cfg.Handler == nil, r.isOwn(e.row), r.wasHandled(e.row):
		r.pass(e.row)
		return nil
	}
	return r.deliver(ctx, e)
}

// moved is the line that moves the cursor behind a row.
func moved(row wire.Activity) line { return line{Row: row.ID, Seq: row.Seq, At: rowTime(row)} }

// pass moves the cursor alone.
func (r *run) pass(row wire.Activity) {
	r.journal.note(moved(row))
	r.step(stepCursorJournalled)
}

func method(row wire.Activity) string {
	if row.Method == nil {
		return ""
	}
	return *row.Method
}

// isOwn reports a row that the workspace caused itself (contract 7.1).
func (r *run) isOwn(row wire.Activity) bool {
	if row.SourceID == nil || *row.SourceID == "" {
		return method(row) == wire.MethodNotify
	}
	return *row.SourceID == r.cfg.Client.Workspace().String() && method(row) != methodDelegateResult
}

func (r *run) wasHandled(row wire.Activity) (handled bool) {
	r.journal.view(func(s *state) { handled = s.past.has(row.ID) })
	return handled
}

// announce puts an upload row's file on the list, before the row's turn comes. In
// the journal the list comes before the cursor: a file that a cursor lies behind is
// on it.
func (r *run) announce(ctx context.Context, row wire.Activity, number int64) {
	f, err := manifest(r.cfg.Client.Workspace(), row)
	if err != nil {
		r.troubles.mention(ctx, fmt.Errorf("row %s announces a file that cannot be read from it: %w", row.ID, err))
		return
	}
	var known bool
	r.journal.view(func(s *state) { known = s.files[f.ID] != nil || s.done.has(f.ID) })
	if known {
		return
	}
	r.journal.note(line{File: &f})
	r.step(stepRowJournalled)
	r.log.LogAttrs(ctx, slog.LevelDebug, "file announced", slog.String("file_id", f.ID.String()), slog.Int64("size", f.Size))
	r.queue.add(f.ID, number)
}

// manifest reads an upload row.
func manifest(ws storage.WorkspaceID, row wire.Activity) (record, error) {
	var m wire.UploadManifest
	if err := json.Unmarshal(row.RequestBody, &m); err != nil {
		return record{}, fmt.Errorf("read manifest: %w", err)
	}
	id, err := storage.ParseFileID(m.FileID)
	if err != nil {
		return record{}, err
	}
	if m.Size < 0 || m.Size > largestSize {
		return record{}, fmt.Errorf("its size is %d", m.Size)
	}
	if m.URI == "" {
		m.URI = storage.PendingURI(ws, id)
	}
	return record{
		ID: id, URI: m.URI, Name: m.Name, MIME: m.MIMEType, Size: m.Size,
		Seq: row.Seq, Seen: time.Now().UTC(), Stage: stagePending,
	}, nil
}

// deliver hands a row over once its files have been tried.
func (r *run) deliver(ctx context.Context, e entry) error {
	row := e.row
	r.drain(ctx, e.number)
	key := "message " + row.ID
	pause := &backoff.ExponentialBackOff{
		InitialInterval: r.firstPause, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: r.longestPause,
	}
	for failed := 0; ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.step(stepBeforeHandler)
		err := r.cfg.Handler(ctx, r.message(row))
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err = fmt.Errorf("message %s: %w", row.ID, err)
		if failed++; r.cfg.HandlerAttempts > 0 && failed >= r.cfg.HandlerAttempts {
			r.troubles.mention(ctx, fmt.Errorf("skipped after %d attempts: %w", failed, err))
			break
		}
		r.troubles.report(ctx, key, err)
		if err := sleep(ctx, pause.NextBackOff()); err != nil {
			return err
		}
	}
	r.step(stepAfterHandler)
	r.troubles.solved(ctx, key)
	return r.handled(ctx, row)
}

// handled keeps a message from coming again. Until that is on the disk, nothing
// else happens.
func (r *run) handled(ctx context.Context, row wire.Activity) error {
	pause := &backoff.ExponentialBackOff{
		InitialInterval: r.firstPause, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: r.longestPause,
	}
	done := moved(row)
	done.Handled = true
	err := r.commit(ctx, done)
	for err != nil {
		r.troubles.report(ctx, "folder "+r.cfg.Journal, err)
		if err := sleep(ctx, pause.NextBackOff()); err != nil {
			return err
		}
		err = r.flush(ctx)
	}
	r.step(stepHandledJournalled)
	return nil
}

// drain waits until every file announced before a row was tried, for as long as
// such files may take.
func (r *run) drain(ctx context.Context, number int64) {
	attempts := r.queue.attempts(number)
	r.step(stepDraining)
	var bytes int64
	for id := range attempts {
		if f, ok := r.journal.fileOf(id); ok {
			bytes += f.Size
		}
	}
	limit := r.cfg.DrainTimeout + longestDrain
	if hundreds := bytes / 100; hundreds < int64(longestDrain/time.Millisecond) {
		limit = r.cfg.DrainTimeout + time.Duration(hundreds)*time.Millisecond
	}
	late := time.NewTimer(limit)
	defer late.Stop()
	for _, attempt := range attempts {
		select {
		case <-attempt:
		case <-ctx.Done():
			return
		case <-late.C:
			r.log.LogAttrs(ctx, slog.LevelWarn, "a message is delivered before its files", slog.Duration("waited", limit))
			return
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
