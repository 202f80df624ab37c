package inbox

import (
	"context"
	"errors"
	"io/fs"
)

// place gives a fetched file a name that nothing in the folder has. The journal
// knows the name before the folder does, so that a restart recognises the file.
func (r *run) place(ctx context.Context, folder *folder, temp string, f record) error {
	wanted := folderName(f.Name)
	for n := 1; ; n++ {
		name := numbered(wanted, n)
		if folder.exists(name) || !r.names.take(name, f.ID) {
			continue
		}
		f.Stage, f.As = stagePlacing, name
		if err := r.commit(ctx, line{File: &f}); err != nil {
			r.unplaced(f)
			return err
		}
		r.step(stepPlacingJournalled)
		// Where the folder was moved away meanwhile, the file would go with it.
		err := folder.current()
		if err == nil {
			err = folder.place(temp, name)
		}
		switch {
		case errors.Is(err, fs.ErrExist):
			r.names.free(name)
			continue
		case err != nil:
			// It may have its name all the same: the next attempt looks.
			return folderError(r.cfg.Dir, err)
		}
		r.step(stepRenamed)
		return r.placed(ctx, folder, f)
	}
}

// unplaced takes a file back that surely has not got its name.
func (r *run) unplaced(f record) {
	r.names.free(f.As)
	pending := f.back()
	r.journal.note(line{File: &pending})
}

// placed makes a file's name in the folder last.
func (r *run) placed(ctx context.Context, folder *folder, f record) error {
	if err := folder.sync(); err != nil {
		return folderError(r.cfg.Dir, err)
	}
	r.step(stepFolderSynced)
	r.folderWorks(ctx)
	r.names.free(f.As)
	f.Stage = stagePlaced
	if err := r.commit(ctx, line{File: &f}); err != nil {
		return err
	}
	r.step(stepPlacedJournalled)
	return nil
}

// resolve finds out whether a file that was about to get its name has it.
func (r *run) resolve(ctx context.Context, f record) error {
	folder, err := r.openFolder()
	if err != nil {
		return err
	}
	defer folder.close()
	got, err := folder.received(f.As)
	switch {
	case err == nil && got == f.received():
		return r.placed(ctx, folder, f)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return folderError(r.cfg.Dir, err)
	}
	r.unplaced(f)
	return nil
}
