package metadata

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/storage"
)

// NewUpload is one upload to insert. Exactly one of Content and ObjectKey is
// set.
type NewUpload struct {
	FileID    storage.FileID
	Filename  string         // 1 to storage.MaxFilenameBytes bytes
	MIMEType  string         // may be empty
	Size      int64          // bytes, 1 to storage.MaxFileBytesCeiling
	SHA256    storage.Digest // zero when unknown
	Content   []byte         // inline content
	ObjectKey string         // key of the object that holds the content
}

// insertRows is how many rows one statement inserts: a batch of the service, and
// far below the 65,535 parameters that PostgreSQL's protocol can count.
const insertRows = storage.MaxFilesPerBatch

// insertBytes is how much content one statement inserts, if it is more than one
// row's: PostgreSQL takes messages below 1 GiB, and lib/pq sends two bytes for one.
const insertBytes = 128 * storage.MiB

// Insert adds the uploads of one request in one transaction, announces them and
// returns their records in the order given. No uploads: no work.
//
// storage.ErrWorkspaceNotFound (from the announcer), storage.ErrInvalidFilename,
// storage.ErrTooLarge, storage.ErrEmpty, storage.ErrQuota: nothing was inserted.
// ErrCommitUnknown: perhaps all were (Within perhaps some, for its owner to commit),
// so objects must be kept. Any other error: nothing was inserted.
func (u *Uploads) Insert(ctx context.Context, ws storage.WorkspaceID, uploads []NewUpload) ([]storage.Record, error) {
	if len(uploads) == 0 {
		return nil, nil
	}
	b := &pgx.Batch{}
	err := u.queueQuota(ctx, b, ws, uploads)
	var records []storage.Record
	if err == nil {
		records, err = u.queueInsert(b, ws, uploads)
	}
	var committed func()
	if err == nil && u.announcer != nil {
		committed, err = u.announcer.Announce(b, ws, records)
	}
	if err == nil {
		err = u.send(ctx, b)
		if err != nil && u.within && !commitRefused(err) {
			// The server has not aborted the transaction, so its owner could commit what
			// it took before.
			err = fmt.Errorf("%w: %w", ErrCommitUnknown, err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("insert %d uploads of workspace %s: %w", len(uploads), ws, err)
	}
	if committed != nil {
		committed()
	}
	return records, nil
}

// send runs a batch: in the caller's transaction, as a statement that is a
// transaction by itself, or in one of its own.
func (u *Uploads) send(ctx context.Context, b *pgx.Batch) error {
	switch {
	case u.within:
		return translate(u.db.SendBatch(ctx, b).Close())
	case len(b.QueuedQueries) == 1:
		return inOneStatement(ctx, u.db, b)
	}
	return inOneTx(ctx, u.db, b)
}

// queueInsert adds the insertion to the batch; the records have their times once
// it has run.
func (u *Uploads) queueInsert(b *pgx.Batch, ws storage.WorkspaceID, uploads []NewUpload) ([]storage.Record, error) {
	records := make([]storage.Record, len(uploads))
	for i, up := range uploads {
		if up.Size <= 0 {
			return nil, &storage.FileError{Index: i, Filename: up.Filename, Err: storage.ErrEmpty}
		}
		if up.ObjectKey != "" && u.sql.reference {
			return nil, &storage.FileError{Index: i, Filename: up.Filename, Err: errReferenceTable}
		}
		placement := storage.PlacementInline
		if up.ObjectKey != "" {
			placement = storage.PlacementObject
		}
		records[i] = storage.Record{
			WorkspaceID: ws,
			FileID:      up.FileID,
			Filename:    up.Filename,
			MIMEType:    up.MIMEType,
			Content:     storage.Content{Size: up.Size, SHA256: up.SHA256, Placement: placement, ObjectKey: up.ObjectKey},
		}
	}
	for first := 0; first < len(uploads); {
		end, bytes := first, 0
		for end < len(uploads) && end < first+insertRows && (end == first || bytes+len(uploads[end].Content) <= insertBytes) {
			bytes += len(uploads[end].Content)
			end++
		}
		u.queueRows(b, ws, uploads[first:end], records[first:end])
		first = end
	}
	return records, nil
}

// errReferenceTable is content in an object for a table that cannot name it.
var errReferenceTable = errors.New("the reference table holds inline content only")

func (u *Uploads) queueRows(b *pgx.Batch, ws storage.WorkspaceID, uploads []NewUpload, records []storage.Record) {
	args := []any{wsArg(ws), u.ttl}
	for i := range uploads {
		args = append(args, u.sql.rowArgs(&uploads[i])...)
	}
	b.Queue(u.sql.insert(len(uploads)), args...).Query(func(rows pgx.Rows) error {
		// One statement, so every row has the same times.
		var created, expires time.Time
		if _, err := pgx.ForEachRow(rows, []any{&created, &expires}, func() error { return nil }); err != nil {
			return err
		}
		for i := range records {
			records[i].CreatedAt, records[i].ExpiresAt = created, expires
		}
		return nil
	})
}
