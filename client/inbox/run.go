package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/molecule-ai/pendinguploads/storage"
)

// Run receives until ctx ends, which is not an error, or, with Follow.Once, until
// there is nothing more: ErrUnfinished if files had to be left. It ends early
// where the service refuses for good (client.ErrUnauthorized; client.ErrNotFound:
// there is no such workspace; a FeedError), where another inbox has the journal or the folder
// (ErrInUse), and where one of them cannot be used at the start. Everything else
// is told to OnTrouble and tried again.
func (in *Inbox) Run(ctx context.Context) error {
	r, err := in.open()
	if err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	if err := errors.Join(r.run(ctx), r.close()); err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	return nil
}

// run is one Run of an inbox.
type run struct {
	*Inbox
	journal  *journal
	queue    *queue
	troubles *troubles
	names    nameSet
	room     room
	fail     context.CancelCauseFunc // ends the Run

	telling   sync.Mutex // one OnFile or OnProgress at a time
	announced map[storage.FileID]bool
	lastErr   error // of a file

	lockFile   *os.File // of the journal
	folderLock struct {
		sync.Mutex
		dir *os.File
	}
	reported reported
}

// open takes the locks, makes the folder and reads the journal.
func (in *Inbox) open() (_ *run, err error) {
	r := &run{Inbox: in, announced: map[storage.FileID]bool{}, troubles: newTroubles(in.cfg.OnTrouble, in.log)}
	if err := os.MkdirAll(in.cfg.Dir, 0o700); err != nil {
		return nil, folderError(in.cfg.Dir, err)
	}
	if err := os.MkdirAll(filepath.Dir(in.cfg.Journal), 0o700); err != nil {
		return nil, folderError(in.cfg.Journal, err)
	}
	defer func() {
		if err != nil {
			r.unlock()
		}
	}()
	if r.lockFile, err = openLock(in.cfg.Journal + ".lock"); err != nil {
		return nil, folderError(in.cfg.Journal, err)
	}
	if err := r.prepareFolder(); err != nil {
		return nil, err
	}
	if r.journal, err = openJournal(in.cfg.Journal, in.cfg.Client.Workspace(), in.tuning); err != nil {
		return nil, err
	}
	if err := r.clean(); err != nil {
		return nil, errors.Join(err, r.journal.close())
	}
	return r, nil
}

// clean leaves those temporary files alone that fetches go on with.
func (r *run) clean() error {
	keep := map[string]bool{}
	r.journal.view(func(s *state) {
		for id, f := range s.files {
			if f.Stage == stagePending && f.ETag != "" {
				keep[tempName(id)] = true
			}
		}
	})
	f, err := r.openFolder()
	if err != nil {
		return err
	}
	defer f.close()
	return f.clean(keep)
}

// prepareFolder wants a folder that can be written to, and nobody else in it.
func (r *run) prepareFolder() error {
	f, err := r.openFolder()
	if err != nil {
		return err
	}
	defer f.close()
	const probe = tempPrefix + "probe" + tempSuffix
	file, err := f.createTemp(probe)
	switch {
	case isFull(err):
		return nil // files will say so, and wait
	case err != nil:
		return folderError(r.cfg.Dir, err)
	}
	return folderErrorOrNil(r.cfg.Dir, errors.Join(file.Close(), f.remove(probe)))
}

// openFolder opens the folder as it is now, and holds its lock from then on. A
// folder that was replaced is locked anew.
func (r *run) openFolder() (*folder, error) {
	f, err := openFolder(r.cfg.Dir, r.tuning)
	if err != nil {
		return nil, err
	}
	if err := r.lockFolder(f); err != nil {
		f.close()
		return nil, folderError(r.cfg.Dir, err)
	}
	return f, nil
}

func (r *run) lockFolder(f *folder) error {
	r.folderLock.Lock()
	defer r.folderLock.Unlock()
	now, err := f.dir.Stat()
	if err != nil {
		return err
	}
	if held := r.folderLock.dir; held != nil {
		if before, err := held.Stat(); err == nil && os.SameFile(before, now) {
			return nil
		}
	}
	dir, err := os.Open(r.cfg.Dir)
	if err != nil {
		return err
	}
	if err := lock(dir); err != nil {
		return errors.Join(err, dir.Close())
	}
	if r.folderLock.dir != nil {
		release(r.folderLock.dir)
	}
	r.folderLock.dir = dir
	return nil
}

func (r *run) unlock() {
	if r.folderLock.dir != nil {
		release(r.folderLock.dir)
	}
	if r.lockFile != nil {
		release(r.lockFile)
	}
}

func (r *run) close() error {
	err := r.journal.close()
	r.unlock()
	return err
}

func (r *run) run(parent context.Context) error {
	ctx, fail := context.WithCancelCause(parent)
	r.fail = fail
	r.queue = newQueue(r.cfg.Fetchers, r.tuning, func(id storage.FileID) (time.Duration, bool) { return r.work(ctx, id) })
	r.resume()
	var background sync.WaitGroup
	if r.cfg.Heartbeat > 0 {
		background.Go(func() { r.heartbeats(ctx) })
	}
	background.Go(func() { r.reports(ctx) })
	r.log.LogAttrs(ctx, slog.LevelInfo, "receiving", slog.String("workspace_id", r.cfg.Client.Workspace().String()), slog.String("dir", r.cfg.Dir), slog.Int("files_left", r.queue.left()))

	err := r.follow(ctx)
	if err == nil {
		err = r.finish(ctx)
	}
	switch {
	case parent.Err() != nil:
		err = nil // as was asked for
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	fail(nil)
	r.queue.stop()
	background.Wait()
	r.report(context.WithoutCancel(parent), lastReport)
	return err
}

// resume goes on with what an earlier run left.
func (r *run) resume() {
	var open []storage.FileID
	r.journal.view(func(s *state) {
		open = s.unfinished()
		for _, id := range open {
			if f := s.files[id]; f.Stage == stagePlacing {
				r.names.take(f.As, id)
			}
		}
	})
	for _, id := range open {
		r.queue.add(id, 0)
	}
}

// finish waits, at the end of a feed that is not waited for, until each file was
// tried.
func (r *run) finish(ctx context.Context) error {
	for _, attempt := range r.queue.attempts(math.MaxInt64) {
		select {
		case <-attempt:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if n := r.queue.left(); n > 0 {
		r.telling.Lock()
		defer r.telling.Unlock()
		return fmt.Errorf("%d %w: %w", n, ErrUnfinished, r.lastErr)
	}
	return nil
}
