package staging

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// intake receives the files of one batch. Bodies are read one after the other;
// while the object store still works on one, the next is read already.
type intake struct {
	s      *Store
	ws     storage.WorkspaceID
	ctx    context.Context
	cancel context.CancelCauseFunc

	files []metadata.NewUpload
	keep  bool // the objects belong to rows now

	reserved int64 // bytes of inline content that there is budget left for
	releases []func()

	slots   chan struct{}
	flights sync.WaitGroup

	mu     sync.Mutex
	stored []string // keys of complete objects
	err    error    // first failure of a flight
}

func (s *Store) newIntake(ctx context.Context, ws storage.WorkspaceID) *intake {
	ctx, cancel := context.WithCancelCause(ctx)
	return &intake{s: s, ws: ws, ctx: ctx, cancel: cancel, slots: make(chan struct{}, s.filesInFlight)}
}

// close waits for what is in flight and discards everything unless the rows
// were committed. It runs on every way out, panics included.
func (in *intake) close() {
	in.cancel(context.Canceled)
	in.flights.Wait()
	if !in.keep {
		in.s.discard(in.ctx, in.stored)
	}
	for _, release := range in.releases {
		release()
	}
}

// receive reads all files. On success every object is durable.
func (in *intake) receive(b storage.Batch) error {
	if err := in.reserveInline(b.MaxBytes); err != nil {
		return err
	}
	for u, err := range b.Uploads {
		if err != nil {
			return in.failure(err)
		}
		if len(in.files) == in.s.maxFiles {
			return fmt.Errorf("%w: limit %d", storage.ErrTooManyFiles, in.s.maxFiles)
		}
		if err := in.file(u); err != nil {
			return in.failure(err)
		}
	}
	in.flights.Wait()
	if err := in.failure(nil); err != nil {
		return err
	}
	return in.complete()
}

// complete reports a file that goes to the object store and is not there: no row
// may ever cite it, whatever let it come this far.
func (in *intake) complete() error {
	stored := make(map[string]bool, len(in.stored))
	for _, key := range in.stored {
		stored[key] = true
	}
	for _, f := range in.files {
		if f.ObjectKey != "" && !stored[f.ObjectKey] {
			return fmt.Errorf("object %s was not stored", f.ObjectKey)
		}
	}
	return nil
}

// failure prefers what a flight met: an error seen by the reading side after
// that is often only the cancellation.
func (in *intake) failure(err error) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.err != nil {
		return in.err
	}
	return err
}

// reserveInline takes the budget for all inline content of the batch before
// the first is read: a batch that holds some while it waits for more could wait
// for another that does the same.
func (in *intake) reserveInline(maxBytes int64) error {
	if in.s.inlineMax == 0 {
		return nil
	}
	if maxBytes <= 0 || maxBytes > in.s.limits.MaxRequestBytes {
		maxBytes = in.s.limits.MaxRequestBytes
	}
	n := min(maxBytes, in.s.inlineMax*int64(in.s.maxFiles))
	release, err := in.s.budget.Reserve(in.ctx, n*InlineCopies)
	if err != nil {
		return fmt.Errorf("reserve memory for %d bytes of inline content: %w", n, err)
	}
	in.reserved = n
	in.releases = append(in.releases, release)
	return nil
}

// file takes one file in. When it returns, the body has been read to its end.
func (in *intake) file(u storage.Upload) error {
	index := len(in.files)
	wrap := func(err error) error {
		return &storage.FileError{Index: index, Filename: u.Filename, Err: err}
	}
	if err := storage.CheckFilename(u.Filename); err != nil {
		return wrap(err)
	}
	id, err := storage.NewFileID()
	if err != nil {
		return err
	}
	in.files = append(in.files, metadata.NewUpload{FileID: id, Filename: u.Filename, MIMEType: u.MIMEType})
	row := &in.files[index]

	m := newMeter(u.Body, in.s.limits.MaxFileBytes)
	head, whole, err := in.head(m, u.Body)
	switch {
	case m.crash != nil:
		panic(m.crash)
	case err != nil:
		return wrap(err)
	case len(head) == 0:
		return wrap(storage.ErrEmpty)
	case whole:
		row.Content, row.Size, row.SHA256 = head, m.size, m.digest()
		return nil
	}
	row.ObjectKey = in.s.keys.key(in.ws, id)
	if err := in.launch(row.ObjectKey, u.MIMEType, io.MultiReader(bytes.NewReader(head), m), m); err != nil {
		if m.failed() {
			if m.crash != nil {
				panic(m.crash)
			}
			return wrap(m.err)
		}
		return err
	}
	row.Size, row.SHA256 = m.size, m.digest()
	return nil
}

// head reads the beginning of a body: all of it when it is small enough to stay
// inline (whole is true), else enough to know that it goes to the object store
// and is not empty.
func (in *intake) head(m *meter, body io.Reader) (head []byte, whole bool, err error) {
	inline := min(in.s.inlineMax, in.reserved)
	if in.s.objects == nil {
		// There is nowhere else to go; the meter stops what is above the cap.
		inline = in.s.limits.MaxFileBytes
	}
	if inline == 0 {
		head = make([]byte, 1)
		n, err := io.ReadFull(m, head)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return head[:n], false, err
	}
	var b bytes.Buffer
	if sized, ok := body.(interface{ Len() int }); ok {
		// Content that is in memory already is copied once.
		b.Grow(int(min(int64(max(sized.Len(), 0)), inline)) + bytes.MinRead)
	}
	if _, err := b.ReadFrom(io.LimitReader(m, inline+1)); err != nil {
		return nil, false, err
	}
	head = b.Bytes()
	whole = int64(len(head)) <= inline
	if whole {
		in.reserved -= int64(len(head))
	}
	return head, whole, nil
}

// launch starts putting an object and returns when its body has been read, or
// when the put failed. The put itself goes on in the background.
func (in *intake) launch(key, contentType string, body io.Reader, m *meter) error {
	select {
	case in.slots <- struct{}{}:
	case <-in.ctx.Done():
		return context.Cause(in.ctx)
	}
	ended := make(chan struct{})
	in.flights.Add(1)
	go func() {
		defer in.flights.Done()
		defer close(ended)
		defer func() { <-in.slots }()
		err := in.s.objects.Put(in.ctx, key, body, blob.PutOptions{
			ContentType: storage.ObjectMIMEType(contentType), Digest: func() [sha256.Size]byte { return m.digest() },
		})
		in.landed(key, err, m)
	}()
	select {
	case <-m.done:
		if m.err != nil {
			<-ended
			return m.err
		}
		return nil
	case <-ended:
		// The body's end may be known as well by now, and is what counts.
		if m.failed() {
			return m.err
		}
		return in.failure(nil)
	}
}

// landed records the end of a flight.
func (in *intake) landed(key string, err error, m *meter) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if err == nil {
		in.stored = append(in.stored, key)
		return
	}
	if in.err != nil || m.failed() {
		// The first failure is the one to tell; a body's own error is told by
		// the reading side, which knows which file it is.
		return
	}
	if in.ctx.Err() != nil {
		err = errors.Join(context.Cause(in.ctx), err)
	}
	in.err = fmt.Errorf("put object %s: %w", key, err)
	in.cancel(in.err)
}
