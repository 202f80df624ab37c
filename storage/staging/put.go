package staging

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// errUploadTime is the cause of a batch's end after MaxUploadTime.
var errUploadTime = errors.New("upload took longer than allowed")

// Put implements storage.Storage.
func (s *Store) Put(ctx context.Context, ws storage.WorkspaceID, u storage.Upload) (storage.Record, error) {
	records, err := s.PutBatch(ctx, ws, storage.Batch{Uploads: storage.Files(u), MaxBytes: s.limits.MaxFileBytes})
	if err != nil {
		return storage.Record{}, err
	}
	return records[0], nil
}

// PutBatch implements storage.Storage: every object is durable before the one
// transaction that inserts the rows. Whatever goes wrong before its commit, a
// panic of the caller's sequence included, the objects are discarded. When the
// commit's outcome cannot be known they are left to SweepOrphans instead,
// because rows that did commit may cite them.
func (s *Store) PutBatch(ctx context.Context, ws storage.WorkspaceID, b storage.Batch) ([]storage.Record, error) {
	// Timers stand still while a host is suspended, and orphan sweeps of others do
	// not, so the batch is timed by the wall clock too.
	began := s.now().Round(0)
	ctx, cancel := context.WithTimeoutCause(ctx, s.maxUploadTime, errUploadTime)
	defer cancel()

	in := s.newIntake(ctx, ws)
	defer in.close()
	if err := in.receive(b); err != nil {
		return nil, translate(err)
	}
	if len(in.files) == 0 {
		return nil, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("stage %d files: %w", len(in.files), context.Cause(ctx))
	}
	if age := s.now().Round(0).Sub(began); age > s.maxUploadTime {
		return nil, fmt.Errorf("stage %d files: %w: %v by the wall clock, limit %v", len(in.files), errUploadTime, age, s.maxUploadTime)
	}
	records, err := s.commit(ctx, ws, in.files)
	if err == nil || errors.Is(err, metadata.ErrCommitUnknown) {
		in.keep = true
	}
	return records, err
}

func (s *Store) commit(ctx context.Context, ws storage.WorkspaceID, files []metadata.NewUpload) ([]storage.Record, error) {
	apart := context.WithoutCancel(ctx)
	insert := ctx
	if !s.within {
		var cancel context.CancelFunc
		insert, cancel = context.WithTimeout(apart, insertTime(files))
		defer cancel()
	}
	records, err := s.rows.Insert(insert, ws, files)
	if err != nil && insert.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(insert), err) // not every driver says so
	}
	if errors.Is(err, metadata.ErrCommitUnknown) {
		return s.lookUp(apart, ws, files, err)
	}
	if err != nil {
		return nil, fmt.Errorf("insert %d uploads of workspace %v: %w", len(files), ws, err)
	}
	for i := range records {
		s.Attach(&records[i])
	}
	return records, nil
}

// insertTime is commitTime, and longer for inline content alone: a slow database
// gets a second a MiB. No orphan sweep waits for that, as it does for objects whose
// rows are on their way.
func insertTime(files []metadata.NewUpload) time.Duration {
	var inline int64
	for _, f := range files {
		if f.ObjectKey != "" {
			return commitTime
		}
		inline += f.Size
	}
	return commitTime + time.Duration(inline/storage.MiB)*time.Second
}

// lookUp finds out what became of a commit whose answer was lost.
func (s *Store) lookUp(ctx context.Context, ws storage.WorkspaceID, files []metadata.NewUpload, lost error) ([]storage.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, lookUpTime)
	defer cancel()
	records := make([]storage.Record, len(files))
	for i, f := range files {
		r, err := s.rows.Stat(ctx, ws, f.FileID)
		if err != nil {
			s.log.LogAttrs(ctx, slog.LevelError, "commit of an upload is uncertain; its objects stay for the orphan sweep",
				slog.String("workspace_id", ws.String()), slog.Int("files", len(files)), slog.Any("error", lost))
			return nil, fmt.Errorf("insert %d uploads of workspace %v: %w", len(files), ws, lost)
		}
		s.Attach(&r)
		records[i] = r
	}
	return records, nil
}

// discard removes objects that no row will cite. What cannot be removed now is
// an orphan, and SweepOrphans comes for it.
func (s *Store) discard(ctx context.Context, keys []string) {
	if len(keys) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTime)
	defer cancel()
	if err := s.objects.Delete(ctx, keys...); err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "objects of a failed upload stay for the orphan sweep",
			slog.Int("objects", len(keys)), slog.Any("error", err))
	}
}

// translate gives errors of the object store the storage package's names.
func translate(err error) error {
	if errors.Is(err, blob.ErrBusy) {
		return fmt.Errorf("%w: %w", storage.ErrBusy, err)
	}
	return err
}
