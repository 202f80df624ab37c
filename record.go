package pendinguploads

import (
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

	staged storage.Record
}

func newRecord(r storage.Record, content []byte) Record {
	return Record{
		FileID: uuid.UUID(r.FileID), WorkspaceID: uuid.UUID(r.WorkspaceID), Content: content,
		Filename: r.Filename, Mimetype: r.MIMEType, SizeBytes: r.Content.Size,
		CreatedAt: r.CreatedAt, FetchedAt: r.FetchedAt, AckedAt: r.AckedAt, ExpiresAt: r.ExpiresAt,
		staged: r,
	}
}

// Open reads the content from its start, without holding all of it. The caller
// closes, and keeps ctx alive until then. A reader never ends short with io.EOF.
// ErrNotFound when the file is gone, or the record was not made by a Store.
func (r Record) Open(ctx context.Context) (io.ReadCloser, error) {
	body, err := r.staged.Content.Open(ctx, storage.Range{})
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
	signed, err := r.staged.Content.URL(ctx, r.staged.URLOptions(ttl))
	if err != nil {
		return "", time.Time{}, fmt.Errorf("pendinguploads: make URL: %w", err)
	}
	return signed.URL, signed.ExpiresAt, nil
}
