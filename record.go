package pendinguploads

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads/storage"
)

// Record is a staged file. Times are the database's clock.
type Record struct {
	FileID      uuid.UUID
	WorkspaceID uuid.UUID
	Content     []byte // all of it; nil from Lookup
	Filename    string // as it was put
	Mimetype    string // as it was put; may be empty
	SizeBytes   int64
	CreatedAt   time.Time
	FetchedAt   *time.Time // latest MarkFetched, nil before the first
	AckedAt     *time.Time // first Ack; nil unless WithReadAfterAck
	ExpiresAt   time.Time

	store *Store // that made it
	place place
}

// place is where the content lies. It is plain data, so that records of the same
// file are equal.
type place struct {
	where  storage.Placement
	key    string
	digest storage.Digest
}

func (s *Store) newRecord(r storage.Record, content []byte) Record {
	return Record{
		FileID: uuid.UUID(r.FileID), WorkspaceID: uuid.UUID(r.WorkspaceID), Content: content,
		Filename: r.Filename, Mimetype: r.MIMEType, SizeBytes: r.Content.Size,
		CreatedAt: r.CreatedAt, FetchedAt: r.FetchedAt, AckedAt: r.AckedAt, ExpiresAt: r.ExpiresAt,
		store: s, place: place{r.Content.Placement, r.Content.ObjectKey, r.Content.SHA256},
	}
}

// staged is the record as the store below has it.
func (r Record) staged() storage.Record {
	staged := storage.Record{
		FileID: storage.FileID(r.FileID), WorkspaceID: storage.WorkspaceID(r.WorkspaceID),
		Filename: r.Filename, MIMEType: r.Mimetype, ExpiresAt: r.ExpiresAt,
		Content: storage.Content{Size: r.SizeBytes, SHA256: r.place.digest, Placement: r.place.where, ObjectKey: r.place.key},
	}
	if r.store != nil {
		r.store.staging.Attach(&staged)
	}
	return staged
}

// Equal compares what the fields say, times as instants. Tests that compare records
// with go-cmp go by it.
func (r Record) Equal(other Record) bool {
	return r.FileID == other.FileID && r.WorkspaceID == other.WorkspaceID && bytes.Equal(r.Content, other.Content) &&
		r.Filename == other.Filename && r.Mimetype == other.Mimetype && r.SizeBytes == other.SizeBytes &&
		r.CreatedAt.Equal(other.CreatedAt) && r.ExpiresAt.Equal(other.ExpiresAt) &&
		sameTime(r.FetchedAt, other.FetchedAt) && sameTime(r.AckedAt, other.AckedAt)
}

func sameTime(a, b *time.Time) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(*b)
}

// Open reads the content from its start, without holding all of it. The caller
// closes, and keeps ctx alive until then. A reader never ends short with io.EOF.
// ErrNotFound when the file is gone, or the record was not made by a Store.
func (r Record) Open(ctx context.Context) (io.ReadCloser, error) {
	body, err := r.staged().Content.Open(ctx, storage.Range{})
	if err != nil {
		return nil, fmt.Errorf("pendinguploads: open: %w", err)
	}
	return body, nil
}

// URL is an address under which the object store itself serves the content, by
// GET and without any credential, for ttl (a second or more) or until the file
// expires, whichever is sooner. Name and type come as an attachment's. Who has
// it can read the file, after an ack too, until it is swept: it belongs in no log.
//
// ErrNoURL where the content is inline: proxy Open then. ErrNotFound where less
// than a second of the file's life is left.
func (r Record) URL(ctx context.Context, ttl time.Duration) (url string, expiresAt time.Time, err error) {
	staged := r.staged()
	signed, err := staged.Content.URL(ctx, staged.URLOptions(ttl))
	if err != nil {
		return "", time.Time{}, fmt.Errorf("pendinguploads: make URL: %w", err)
	}
	return signed.URL, signed.ExpiresAt, nil
}
