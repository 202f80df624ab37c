package staging

import (
	"context"
	"sync"
	"time"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/storage"
)

// mostDigests is how many are remembered: some 250 bytes each, and more than the
// files of all commits that are repeated at one time.
const mostDigests = 4096

// objectState is an object as it was found: one that was written anew is another.
type objectState struct {
	key, etag string
	modified  time.Time
}

func stateOf(key string, info blob.Info) objectState {
	return objectState{key: key, etag: info.ETag, modified: info.LastModified.UTC()}
}

// digests remembers the SHA-256s of objects that commits have read through. A
// commit that is repeated, because nobody waited for it or because it was refused,
// goes on where the one before has ended, and calls at the same time read an object
// once. The zero value is ready.
type digests struct {
	mu      sync.Mutex // never held while an object is read
	known   map[objectState]storage.Digest
	oldest  []objectState // the keys of known
	reading map[objectState]chan struct{}
}

// of returns the digest that is known, or that read finds. What read fails with is
// the caller's own: others who wait read for themselves.
func (d *digests) of(ctx context.Context, o objectState, read func() (storage.Digest, error)) (storage.Digest, error) {
	for {
		d.mu.Lock()
		if digest, ok := d.known[o]; ok {
			d.mu.Unlock()
			return digest, nil
		}
		busy, ok := d.reading[o]
		if !ok {
			if d.reading == nil {
				d.reading = make(map[objectState]chan struct{})
			}
			done := make(chan struct{})
			d.reading[o] = done
			d.mu.Unlock()
			digest, err := read()
			d.found(o, digest, err)
			close(done)
			return digest, err
		}
		d.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return storage.Digest{}, context.Cause(ctx)
		}
	}
}

func (d *digests) found(o objectState, digest storage.Digest, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.reading, o)
	if err != nil {
		return
	}
	if d.known == nil {
		d.known = make(map[objectState]storage.Digest)
	}
	if len(d.oldest) == mostDigests {
		delete(d.known, d.oldest[0])
		d.oldest = d.oldest[1:]
	}
	d.known[o], d.oldest = digest, append(d.oldest, o)
}
