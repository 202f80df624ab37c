package metadata

import (
	"context"
	"fmt"
	"slices"
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

const insertUploadsSQL = `
INSERT INTO pending_uploads
    (workspace_id, file_id, content, object_key, sha256, size_bytes, filename, mimetype, created_at, expires_at)
SELECT @workspace, t.file_id, t.content, t.object_key, t.sha256, t.size_bytes, t.filename, t.mimetype,
       statement_timestamp(), statement_timestamp() + @ttl::interval
FROM unnest(@files::text[]::uuid[], @contents::bytea[], @keys::text[], @digests::bytea[],
            @sizes::bigint[], @filenames::text[], @mimetypes::text[])
    AS t (file_id, content, object_key, sha256, size_bytes, filename, mimetype)
RETURNING created_at, expires_at`

// Insert adds the uploads of one request in one transaction, announces them and
// returns their records in the order given. No uploads: no work.
//
// storage.ErrWorkspaceNotFound (from the announcer), storage.ErrInvalidFilename,
// storage.ErrTooLarge, storage.ErrEmpty: nothing was inserted. ErrCommitUnknown: perhaps all were,
// so objects must be kept. Any other error: nothing was inserted.
func (u *Uploads) Insert(ctx context.Context, ws storage.WorkspaceID, uploads []NewUpload) ([]storage.Record, error) {
	if len(uploads) == 0 {
		return nil, nil
	}
	b := &pgx.Batch{}
	records, err := u.queueInsert(b, ws, uploads)
	var committed func()
	if err == nil && u.announcer != nil {
		committed, err = u.announcer.Announce(b, ws, records)
	}
	if err == nil {
		err = inOneTx(ctx, u.db, b)
	}
	if err != nil {
		return nil, fmt.Errorf("insert %d uploads of workspace %s: %w", len(uploads), ws, err)
	}
	if committed != nil {
		committed()
	}
	return records, nil
}

// queueInsert adds the insertion to the batch; the records have their times once
// it has run.
func (u *Uploads) queueInsert(b *pgx.Batch, ws storage.WorkspaceID, uploads []NewUpload) ([]storage.Record, error) {
	n := len(uploads)
	var (
		files     = make([]string, n)
		contents  = make([][]byte, n)
		keys      = make([]*string, n)
		digests   = make([][]byte, n)
		sizes     = make([]int64, n)
		filenames = make([]string, n)
		mimetypes = make([]string, n)
		records   = make([]storage.Record, n)
	)
	for i, up := range uploads {
		files[i], sizes[i], filenames[i], mimetypes[i] = up.FileID.String(), up.Size, up.Filename, up.MIMEType
		contents[i] = up.Content
		placement := storage.PlacementInline
		if up.ObjectKey != "" {
			keys[i] = &uploads[i].ObjectKey
			placement = storage.PlacementObject
		}
		if !up.SHA256.IsZero() {
			digests[i] = uploads[i].SHA256[:]
		}
		records[i] = storage.Record{
			WorkspaceID: ws,
			FileID:      up.FileID,
			Filename:    up.Filename,
			MIMEType:    up.MIMEType,
			Content:     storage.Content{Size: up.Size, SHA256: up.SHA256, Placement: placement, ObjectKey: up.ObjectKey},
		}
	}
	if i := slices.IndexFunc(sizes, func(size int64) bool { return size <= 0 }); i >= 0 {
		return nil, &storage.FileError{Index: i, Filename: filenames[i], Err: storage.ErrEmpty}
	}
	b.Queue(insertUploadsSQL, pgx.NamedArgs{
		"workspace": wsArg(ws), "ttl": u.ttl, "files": files, "contents": contents, "keys": keys,
		"digests": digests, "sizes": sizes, "filenames": filenames, "mimetypes": mimetypes,
	}).Query(func(rows pgx.Rows) error {
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
	return records, nil
}
