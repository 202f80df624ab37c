package inbox

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"github.com/molecule-ai/pendinguploads/client"
)

// receive fetches a file and puts it into the folder.
func (r *run) receive(ctx context.Context, f record) error {
	if r.cfg.MaxFileBytes > 0 && f.Size > r.cfg.MaxFileBytes {
		r.giveUp(ctx, f, fmt.Errorf("%w: %d bytes, want at most %d", client.ErrTooLarge, f.Size, r.cfg.MaxFileBytes))
		return nil
	}
	folder, err := r.openFolder()
	if err != nil {
		return err
	}
	defer folder.close()
	share, err := r.claim(folder, f)
	if err != nil {
		return err
	}
	defer share.end()
	err = r.fetch(ctx, folder, f, share)
	if err != nil {
		r.progress(f, -1)
	}
	switch {
	case errors.Is(err, client.ErrNotFound), errors.Is(err, client.ErrTooLarge):
		r.giveUp(ctx, f, err)
		return nil
	case isDamaged(err):
		return r.damaged(ctx, f, err)
	}
	return err
}

// mostDamaged is how often content may come that is not what was announced before
// the file is given up.
const mostDamaged = 5

// isDamaged reports content that is not what was announced.
func isDamaged(err error) bool {
	return errors.Is(err, client.ErrCorrupt) || errors.Is(err, ErrWrongSize)
}

// damaged counts what it cost to fetch such content: somebody else's store has to
// be put right, and it may be large.
func (r *run) damaged(ctx context.Context, f record, cause error) error {
	f.ETag = ""
	f.Damaged++
	if f.Damaged >= mostDamaged {
		r.giveUp(ctx, f, fmt.Errorf("given up after %d times: %w", f.Damaged, cause))
		return nil
	}
	r.journal.note(line{File: &f})
	return cause
}

// claim checks the free space before a byte is fetched.
func (r *run) claim(folder *folder, f record) (*claim, error) {
	if r.cfg.MinFree < 0 {
		return r.room.unbounded(), nil
	}
	free, known := freeBytes(folder.dir)
	if !known {
		return r.room.unbounded(), nil
	}
	need := f.Size
	if f.ETag != "" {
		need = max(need-folder.partSize(tempName(f.ID)), 0)
	}
	share, ok := r.room.claim(need, free, r.cfg.MinFree)
	if !ok {
		return nil, &SpaceError{ID: f.ID, Name: f.Name, Need: need + r.cfg.MinFree, Free: free}
	}
	return share, nil
}

// fetch leaves the placed file behind, or the beginning of it to go on with.
func (r *run) fetch(ctx context.Context, folder *folder, f record, share *claim) error {
	temp := tempName(f.ID)
	file, from, err := r.openTemp(folder, f)
	if err != nil {
		return r.diskError(folder, f, err)
	}
	r.step(stepTempCreated)
	r.folderWorks(ctx)
	got, err := r.download(ctx, folder, file, from, f, share)
	if err == nil {
		f.ETag, f.Bytes, f.SHA256 = "", got.Size, hex.EncodeToString(got.SHA256[:])
		err = r.place(ctx, folder, temp, f)
	}
	if err != nil && (!isResumable(err) || folder.partSize(temp) == 0) {
		// Its folder may be read-only, or gone; then the next start removes it.
		_ = folder.remove(temp)
	}
	return err
}

// isResumable reports a fetch that can go on where it ended: neither the disk is in
// trouble, which what lies there may need, nor the content.
func isResumable(err error) bool {
	var folder *FolderError
	var space *SpaceError
	return !errors.As(err, &folder) && !errors.As(err, &space) && !isDamaged(err) &&
		!errors.Is(err, client.ErrNotFound) && !errors.Is(err, client.ErrTooLarge)
}

// openTemp opens the file that the content goes into, behind what an earlier
// attempt left of it. What the power took from that shows in the digest of the
// whole.
func (r *run) openTemp(folder *folder, f record) (*os.File, client.Partial, error) {
	name := tempName(f.ID)
	if f.ETag != "" {
		most := int64(-1)
		if f.Size > 0 {
			most = f.Size - 1 // with nothing left to ask for, nobody would say what it belongs to
		}
		if file, size, sum, err := folder.openPart(name, most); err == nil {
			return file, client.Partial{Offset: size, ETag: f.ETag, Sum: sum}, nil
		}
	}
	file, err := folder.createTemp(name)
	return file, client.Partial{}, err
}

// began keeps what an attempt after this one needs to go on.
func (r *run) began(f record, etag string) {
	f.ETag = etag
	r.journal.note(line{File: &f})
	r.step(stepTagJournalled)
}

// folderWorks ends the folder's trouble, and the pauses of the files that wait for
// that.
func (r *run) folderWorks(ctx context.Context) {
	if r.troubles.solved(ctx, "folder "+r.cfg.Dir) {
		r.queue.wake()
	}
}

// diskError is what a failed write means.
func (r *run) diskError(folder *folder, f record, err error) error {
	if !isFull(err) {
		return folderError(r.cfg.Dir, err)
	}
	free, known := freeBytes(folder.dir)
	if !known {
		free = -1
	}
	return &SpaceError{ID: f.ID, Name: f.Name, Need: f.Size + max(r.cfg.MinFree, 0), Free: free}
}

// download writes the content to the disk.
func (r *run) download(ctx context.Context, folder *folder, file *os.File, from client.Partial, f record, share *claim) (got client.Fetched, err error) {
	defer func() {
		if closed := file.Close(); err == nil && closed != nil {
			err = r.diskError(folder, f, closed)
		}
	}()
	to := &sink{run: r, file: file, share: share}
	most := r.cfg.MaxFileBytes
	if f.Size > 0 {
		most = f.Size // what the disk has room for
	}
	r.progress(f, from.Offset)
	got, err = r.cfg.Client.Fetch(ctx, f.ID, to, client.FetchOptions{
		MaxBytes: most, From: from,
		Began:    func(etag string) { r.began(f, etag) },
		Progress: func(done, _ int64) { r.progress(f, done) },
	})
	switch {
	case to.err != nil:
		return got, r.diskError(folder, f, to.err)
	case f.Size > 0 && (errors.Is(err, client.ErrTooLarge) || err == nil && got.Size != f.Size):
		return got, fmt.Errorf("file %v (%q): %w, which is %d bytes", f.ID, f.Name, ErrWrongSize, f.Size)
	case err != nil:
		return got, err
	}
	if err := file.Sync(); err != nil {
		return got, r.diskError(folder, f, err)
	}
	r.step(stepFileSynced)
	return got, nil
}

// sink is a temporary file as the target of a fetch.
type sink struct {
	run     *run
	file    *os.File
	share   *claim
	written bool
	err     error
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	s.share.use(int64(n))
	if !s.written {
		s.written = true
		s.run.step(stepBytesWritten)
	}
	s.err = err
	return n, err
}

func (s *sink) Restart() error {
	if s.err = s.file.Truncate(0); s.err == nil {
		_, s.err = s.file.Seek(0, 0)
	}
	return s.err
}
