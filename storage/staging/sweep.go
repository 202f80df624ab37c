package staging

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// orphanBatch is how many keys are looked up and deleted at a time: what one
// DeleteObjects call takes.
const orphanBatch = 1000

// Sweep implements storage.Sweeper. Rows that are due are hidden first, so that
// none is served while its object goes; then the objects are deleted, then the
// rows. Rows hidden by a sweep that died are taken up by the next one.
func (s *Store) Sweep(ctx context.Context, retention time.Duration, limit int) (storage.SweepResult, error) {
	result, err := s.rows.Sweep(ctx, retention, limit, func(ctx context.Context, keys []string) error {
		if s.objects == nil {
			return errors.New("rows name objects, but no object store is configured")
		}
		return s.objects.Delete(ctx, keys...)
	})
	if err != nil {
		return result, fmt.Errorf("sweep due uploads: %w", err)
	}
	return result, nil
}

// SweepOrphans implements storage.Sweeper. Ages are measured between the
// object store's times and Config.Now, and between the time in the file id and
// Config.Now: a store whose clock is behind must not make a running upload look
// old. What cannot be listed or removed does not keep the rest.
func (s *Store) SweepOrphans(ctx context.Context, grace time.Duration) (storage.OrphanResult, error) {
	var result storage.OrphanResult
	if s.objects == nil {
		return result, nil
	}
	if longest := s.maxUploadTime + commitTime + lookUpTime; grace <= longest {
		return result, fmt.Errorf("orphan grace period is %v, want more than %v: a running upload must not lose its objects", grace, longest)
	}
	before := s.now().Add(-grace)
	// Unfinished uploads are few: they come first, so that a listing of objects that
	// takes all the time there is leaves none for them.
	unfinished := s.abortUnfinished(ctx, before, &result)
	objects := s.sweepOrphanObjects(ctx, before, &result)
	return result, errors.Join(unfinished, objects)
}

// abortUnfinished goes on after one that cannot be aborted, and returns the first
// failure.
func (s *Store) abortUnfinished(ctx context.Context, before time.Time, result *storage.OrphanResult) error {
	var first error
	for u, err := range s.objects.ListUnfinished(ctx, string(s.keys)) {
		if err != nil {
			return cmp.Or(first, fmt.Errorf("list unfinished uploads: %w", err))
		}
		if id, ours := s.keys.parse(u.Key); !ours || !u.Initiated.Before(before) || !madeBefore(id.File, before) {
			continue
		}
		if err := s.objects.AbortUnfinished(ctx, u); err != nil {
			first = cmp.Or(first, fmt.Errorf("abort unfinished upload of %s: %w", u.Key, err))
			if ctx.Err() != nil {
				return first
			}
			continue
		}
		result.Uploads++
	}
	return first
}

// madeBefore reports whether a file id was made before t; an id that does not say
// when, which is none of ours, was.
func madeBefore(f storage.FileID, t time.Time) bool {
	id := uuid.UUID(f)
	if id.Version() != 7 {
		return true
	}
	return time.Unix(id.Time().UnixTime()).Before(t)
}

// sweepOrphanObjects goes on after a batch with an object that cannot be deleted,
// and returns the first failure.
func (s *Store) sweepOrphanObjects(ctx context.Context, before time.Time, result *storage.OrphanResult) error {
	var first error
	var old []metadata.UploadID
	flush := func() error {
		missing, err := s.rows.Missing(ctx, old)
		if err != nil {
			return fmt.Errorf("look for rows of %d objects: %w", len(old), err)
		}
		old = old[:0]
		if len(missing) == 0 {
			return nil
		}
		keys := make([]string, len(missing))
		for i, id := range missing {
			keys[i] = s.keys.key(id.Workspace, id.File)
		}
		if err := s.objects.Delete(ctx, keys...); err != nil {
			first = cmp.Or(first, fmt.Errorf("delete %d orphans: %w", len(keys), err))
			return ctx.Err()
		}
		result.Objects += len(keys)
		return nil
	}
	for o, err := range s.objects.List(ctx, string(s.keys)) {
		if err != nil {
			return cmp.Or(first, fmt.Errorf("list objects: %w", err))
		}
		id, ours := s.keys.parse(o.Key)
		if !ours || !o.LastModified.Before(before) || !madeBefore(id.File, before) {
			continue
		}
		if old = append(old, id); len(old) == orphanBatch {
			if err := flush(); err != nil {
				return cmp.Or(first, err)
			}
		}
	}
	if len(old) > 0 {
		if err := flush(); err != nil {
			return cmp.Or(first, err)
		}
	}
	return first
}
