package metadata

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/storage"
)

// UploadsConfig configures Uploads.
type UploadsConfig struct {
	// DB is the database with the migration set "uploads".
	DB DB

	// TTL is how long an upload waits to be acked; storage.DefaultTTL when 0.
	TTL time.Duration

	// ReadAfterAck keeps acked uploads readable until they are swept or expire.
	ReadAfterAck bool

	// ReferenceTable says that the table may be as contract 4.1 has it, without
	// migrations of this module. Content is inline then, and SweepMarked's marks,
	// Missing's ids and MarkCorrupt's times have no columns. On a migrated table
	// it works as well, beside others, and sees no content but inline content.
	ReferenceTable bool

	// AnyWorkspace finds uploads by their file ids alone, for the interface of
	// programs that check the workspace themselves (contract 3.1): what is passed
	// as workspace to methods with a file id is not looked at.
	AnyWorkspace bool

	// Announcer, where set, writes feed entries in the transaction that inserts
	// uploads.
	Announcer Announcer

	// Quota is what one workspace may have staged, counted in the transaction that
	// inserts. The zero value: no quota.
	Quota storage.Quota
}

// Announcer tells a workspace of its new uploads.
type Announcer interface {
	// Announce adds statements to the batch that inserts the records, to run
	// after them in the same transaction: they may lock the feed, which is held
	// briefly then. An error of Announce or of a statement's callback rolls
	// everything back. The returned func, if not nil, runs after the commit.
	// Times of the records are not set yet.
	Announce(b *pgx.Batch, ws storage.WorkspaceID, records []storage.Record) (committed func(), err error)
}

// Uploads is the pending_uploads table.
type Uploads struct {
	db           DB
	ttl          time.Duration
	readAfterAck bool
	announcer    Announcer
	quota        storage.Quota
	sql          *uploadStatements
	within       bool // db is a transaction of the caller's
}

// NewUploads fills in the defaults. It does no I/O.
func NewUploads(cfg UploadsConfig) *Uploads {
	if cfg.TTL <= 0 {
		cfg.TTL = storage.DefaultTTL
	}
	return &Uploads{
		db: cfg.DB, ttl: cfg.TTL, readAfterAck: cfg.ReadAfterAck, announcer: cfg.Announcer, quota: cfg.Quota,
		sql: statementsFor(cfg.ReferenceTable, cfg.AnyWorkspace),
	}
}

// Within is the same uploads in a transaction of the caller's. Nothing of it is
// committed or rolled back here; an error of a statement aborts it, as PostgreSQL
// does. What it inserts is visible to others when the caller commits.
func (u *Uploads) Within(tx DB) *Uploads {
	within := *u
	within.db, within.within = tx, true
	return &within
}

// UploadID names one upload.
type UploadID struct {
	Workspace storage.WorkspaceID
	File      storage.FileID
}

// Get returns the record of a live upload that is not acked (or is, with
// ReadAfterAck) and not being swept, without its content: the record's Content
// has no Opener. storage.ErrNotFound.
func (u *Uploads) Get(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (storage.Record, error) {
	return u.find(ctx, ws, f, u.readAfterAck)
}

// Stat is Get for acked uploads too.
func (u *Uploads) Stat(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (storage.Record, error) {
	return u.find(ctx, ws, f, true)
}

func (u *Uploads) find(ctx context.Context, ws storage.WorkspaceID, f storage.FileID, acked bool) (storage.Record, error) {
	return u.scan(ctx, u.sql.get, ws, f, acked)
}

// GetContent is Get with the inline content, which is nil where the content lies
// in an object, in one statement.
func (u *Uploads) GetContent(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (storage.Record, []byte, error) {
	var content []byte
	r, err := u.scan(ctx, u.sql.getContent, ws, f, u.readAfterAck, &content)
	return r, content, err
}

// scan reads one record, and into more what its statement selects besides.
func (u *Uploads) scan(ctx context.Context, sql string, ws storage.WorkspaceID, f storage.FileID, acked bool, more ...any) (storage.Record, error) {
	var r storage.Record
	var digest []byte
	var key *string
	err := u.db.QueryRow(ctx, sql, its(ws, f, acked)...).Scan(append([]any{&r.WorkspaceID, &r.FileID, &r.Filename, &r.MIMEType, &r.CreatedAt, &r.FetchedAt, &r.AckedAt, &r.ExpiresAt,
		&r.Content.Size, &digest, &key}, more...)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return storage.Record{}, storage.ErrNotFound
	}
	if err != nil {
		return storage.Record{}, fmt.Errorf("get upload %s: %w", f, translate(err))
	}
	copy(r.Content.SHA256[:], digest)
	r.Content.Placement = storage.PlacementInline
	if key != nil {
		r.Content.Placement = storage.PlacementObject
		r.Content.ObjectKey = *key
	}
	return r, nil
}

// ReadInline returns length bytes of inline content from offset on, fewer where
// the content ends. No rule of visibility applies beyond the ids: a reader that
// was let in by Get reads on while the row exists. storage.ErrNotFound when the
// row is gone or its content lies in an object; storage.ErrRange for negative
// numbers and for more than storage.MaxFileBytesCeiling.
func (u *Uploads) ReadInline(ctx context.Context, ws storage.WorkspaceID, f storage.FileID, offset, length int64) ([]byte, error) {
	if offset < 0 || length < 0 || offset > storage.MaxFileBytesCeiling || length > storage.MaxFileBytesCeiling {
		return nil, fmt.Errorf("%w: bytes %d+%d of inline content", storage.ErrRange, offset, length)
	}
	var b []byte
	err := u.db.QueryRow(ctx, u.sql.readInline, its(ws, f, int32(offset)+1, int32(length))...).Scan(&b)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, storage.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read upload %s of workspace %s: %w", f, ws, err)
	}
	return b, nil
}

const foreignUploadSQL = `
SELECT workspace_id
FROM pending_uploads
WHERE file_id = @file AND workspace_id <> @workspace AND expires_at > statement_timestamp()
LIMIT 1`

// Foreign tells whether a live upload with that file id belongs to another
// workspace than ws. For the audit log only: callers must not let the answer
// show.
func (u *Uploads) Foreign(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (owner storage.WorkspaceID, found bool, err error) {
	err = u.db.QueryRow(ctx, foreignUploadSQL, pgx.NamedArgs{
		"workspace": wsArg(ws), "file": fileArg(f),
	}).Scan(&owner)
	if errors.Is(err, pgx.ErrNoRows) {
		return storage.WorkspaceID{}, false, nil
	}
	if err != nil {
		return storage.WorkspaceID{}, false, fmt.Errorf("look for owner of upload %s: %w", f, err)
	}
	return owner, true, nil
}

const missingUploadsSQL = `
SELECT t.n
FROM unnest(@workspaces::text[]::uuid[], @files::text[]::uuid[]) WITH ORDINALITY AS t (workspace_id, file_id, n)
WHERE NOT EXISTS (
    SELECT FROM pending_uploads p
    WHERE p.workspace_id = t.workspace_id AND p.file_id = t.file_id)
ORDER BY t.n`

// Missing returns those of ids that have no row at all, in whatever state, in
// the order given.
func (u *Uploads) Missing(ctx context.Context, ids []UploadID) ([]UploadID, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	workspaces, files := make([]string, len(ids)), make([]string, len(ids))
	for i, id := range ids {
		workspaces[i], files[i] = id.Workspace.String(), id.File.String()
	}
	rows, err := u.db.Query(ctx, missingUploadsSQL, pgx.NamedArgs{"workspaces": workspaces, "files": files})
	if err != nil {
		return nil, fmt.Errorf("look for rows of %d uploads: %w", len(ids), err)
	}
	ordinals, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("look for rows of %d uploads: %w", len(ids), err)
	}
	missing := make([]UploadID, len(ordinals))
	for i, n := range ordinals {
		missing[i] = ids[n-1]
	}
	return missing, nil
}
