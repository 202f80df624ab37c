package staging

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// directObjects is what direct uploads need of an object store.
type directObjects interface {
	blob.Store
	blob.Presigner
	blob.PartPresigner
	blob.Header
	blob.DirectProber
}

var _ storage.Direct = (*Store)(nil)

// ReserveDirect implements storage.Direct. A reservation is the signed requests,
// and the upload that parts belong to: the ids say when it was made, which is what
// its end and the orphan sweep go by. ttl is cut to MaxUploadTime, after which
// nothing commits.
//
// The first reservation asks what the object store makes of presigned puts. It is
// storage.ErrNoDirect unless the answer is that they are safe to give away.
func (s *Store) ReserveDirect(ctx context.Context, ws storage.WorkspaceID, files []storage.DirectFile, ttl time.Duration) ([]storage.DirectPut, error) {
	objects, ok := s.objects.(directObjects)
	if !ok {
		return nil, storage.ErrNoDirect
	}
	if len(files) > storage.MaxFilesPerBatch {
		return nil, fmt.Errorf("%w: limit %d", storage.ErrTooManyFiles, storage.MaxFilesPerBatch)
	}
	for i, f := range files {
		if err := s.checkDirect(f); err != nil {
			return nil, &storage.FileError{Index: i, Filename: f.Filename, Err: err}
		}
	}
	support, err := s.direct.support(ctx, objects)
	if err != nil {
		return nil, fmt.Errorf("reserve %d files for workspace %v: %w", len(files), ws, err)
	}
	reserving := reserving{store: s, objects: objects, ws: ws, support: support, ttl: min(ttl, s.maxUploadTime)}
	puts, err := reserving.all(ctx, files)
	if errors.Is(err, blob.ErrUnsupported) {
		return nil, fmt.Errorf("%w: %w", storage.ErrNoDirect, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reserve %d files for workspace %v: %w", len(files), ws, err)
	}
	return puts, nil
}

// errNoDigest is a reservation that any content of the right size would do for.
var errNoDigest = errors.New("SHA-256 is required")

func (s *Store) checkDirect(f storage.DirectFile) error {
	if err := s.limits.CheckUpload(f.Size, f.Filename); err != nil {
		return err
	}
	switch {
	case f.SHA256.IsZero():
		return errNoDigest
	case f.Parts != nil:
		return f.Parts.Validate(f.Size)
	}
	return nil
}

// CommitDirect implements storage.Direct.
//
// No object is deleted here, not even one that is wrong: another call may be
// about to commit it. SweepOrphans takes what stays behind, and takes nothing
// that can still be committed: it leaves alone what has a younger id than its
// grace period, which is longer than MaxUploadTime and the commit together.
func (s *Store) CommitDirect(ctx context.Context, ws storage.WorkspaceID, files []storage.DirectFile) ([]storage.Record, error) {
	objects, ok := s.objects.(directObjects)
	if !ok {
		return nil, storage.ErrNoDirect
	}
	if len(files) == 0 {
		return nil, nil
	}
	missing, err := s.rows.Missing(ctx, uploadIDs(ws, files))
	if err != nil {
		return nil, fmt.Errorf("commit %d files of workspace %v: %w", len(files), ws, err)
	}
	if len(missing) < len(files) {
		return s.committed(ctx, ws, files)
	}
	left, err := s.reservationLeft(files)
	if err != nil {
		return nil, err
	}
	verifying, cancel := context.WithTimeoutCause(ctx, left, storage.ErrReservationExpired)
	defer cancel()
	if err := s.verify(verifying, objects, ws, files); err != nil {
		return nil, err
	}
	// A host that was suspended meanwhile has missed its timer, and not the time.
	if _, err := s.reservationLeft(files); err != nil {
		return nil, err
	}
	records, err := s.commit(ctx, ws, s.directRows(ws, files))
	if metadata.AlreadyInserted(err) {
		return s.committed(ctx, ws, files)
	}
	if errors.Is(err, storage.ErrQuota) {
		// Room that another commit of these files found, and others took after an ack.
		if missing, lost := s.rows.Missing(ctx, uploadIDs(ws, files)); lost == nil && len(missing) < len(files) {
			return s.committed(ctx, ws, files)
		}
	}
	return records, err
}

// reservationLeft is for how long the files can still be committed.
func (s *Store) reservationLeft(files []storage.DirectFile) (time.Duration, error) {
	left := s.maxUploadTime
	for i, f := range files {
		id := uuid.UUID(f.FileID)
		if id.Version() != 7 {
			return 0, &storage.FileError{Index: i, Filename: f.Filename, Err: fmt.Errorf("%w: it does not say when it was made", storage.ErrInvalidID)}
		}
		made := time.Unix(id.Time().UnixTime())
		left = min(left, s.maxUploadTime-s.now().Sub(made))
	}
	if left <= 0 {
		return 0, fmt.Errorf("commit %d files: %w: made %v ago, limit %v", len(files), storage.ErrReservationExpired, s.maxUploadTime-left, s.maxUploadTime)
	}
	return left, nil
}

// committed is the answer to a commit that is repeated.
func (s *Store) committed(ctx context.Context, ws storage.WorkspaceID, files []storage.DirectFile) ([]storage.Record, error) {
	records := make([]storage.Record, len(files))
	for i, f := range files {
		r, err := s.rows.Stat(ctx, ws, f.FileID)
		if errors.Is(err, storage.ErrNotFound) {
			return nil, fmt.Errorf("commit %d files of workspace %v again: %w", len(files), ws, storage.ErrCommitted)
		}
		if err != nil {
			return nil, fmt.Errorf("commit %d files of workspace %v again: %w", len(files), ws, err)
		}
		s.Attach(&r)
		records[i] = r
	}
	return records, nil
}

func (s *Store) directRows(ws storage.WorkspaceID, files []storage.DirectFile) []metadata.NewUpload {
	rows := make([]metadata.NewUpload, len(files))
	for i, f := range files {
		rows[i] = metadata.NewUpload{
			FileID: f.FileID, Filename: f.Filename, MIMEType: f.MIMEType, Size: f.Size, SHA256: f.SHA256,
			ObjectKey: s.keys.key(ws, f.FileID),
		}
	}
	return rows
}

func uploadIDs(ws storage.WorkspaceID, files []storage.DirectFile) []metadata.UploadID {
	ids := make([]metadata.UploadID, len(files))
	for i, f := range files {
		ids[i] = metadata.UploadID{Workspace: ws, File: f.FileID}
	}
	return ids
}
