package metadata

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/molecule-ai/pendinguploads/storage"
)

// MoveScope says which uploads a move between rows and objects is about: of those
// that Get serves, the ones in one placement with a size in bounds.
type MoveScope struct {
	From     storage.Placement
	MinBytes int64 // smallest size
	MaxBytes int64 // largest size
}

func (s MoveScope) args(u *Uploads) pgx.NamedArgs {
	return pgx.NamedArgs{
		"inline": s.From == storage.PlacementInline, "min": s.MinBytes, "max": s.MaxBytes, "acked": u.readAfterAck,
	}
}

// Movable is one upload as a move needs to know it.
type Movable struct {
	UploadID
	Size      int64
	SHA256    storage.Digest // as it was recorded; zero where it was not
	MIMEType  string
	ObjectKey string // "" for inline content
	Claimed   bool   // no other transaction has it; always set where nothing was claimed
	Content   []byte // inline content of at most Take.Content bytes; else nil
}

// Take says what NextMovable takes.
type Take struct {
	Limit   int   // uploads
	Content int64 // largest inline content that comes with its upload, in bytes; 0: none does
	Claim   bool
}

// servedSQL is what Get serves.
const servedSQL = `sweeping_at IS NULL AND expires_at > statement_timestamp() AND (@acked OR ` + unackedSQL + `)`

const movableSQL = servedSQL + ` AND (object_key IS NULL) = @inline AND size_bytes BETWEEN @min AND @max`

const countMovableSQL = `
SELECT count(*), coalesce(sum(size_bytes), 0)::bigint
FROM pending_uploads
WHERE ` + movableSQL

// CountMovable returns how many uploads there are in the scope, and how many
// bytes they have. It reads the whole table, without the content.
func (u *Uploads) CountMovable(ctx context.Context, scope MoveScope) (rows, bytes int64, err error) {
	if err := u.db.QueryRow(ctx, countMovableSQL, scope.args(u)).Scan(&rows, &bytes); err != nil {
		return 0, 0, fmt.Errorf("count uploads to move: %w", err)
	}
	return rows, bytes, nil
}

// nextMovableSQL walks by file_id, for which every form of the table has an
// index. The number tells these advisory locks from those of others.
const nextMovableSQL = `
SELECT workspace_id, file_id, size_bytes, sha256, mimetype, coalesce(object_key, ''),
       NOT @claim OR pg_try_advisory_xact_lock(hashtextextended(file_id::text, 8317708067)),
       CASE WHEN octet_length(content) BETWEEN 1 AND @content THEN content END
FROM (
    SELECT workspace_id, file_id, size_bytes, sha256, mimetype, object_key, content
    FROM pending_uploads
    WHERE (file_id, workspace_id) > (@file, @workspace) AND ` + movableSQL + `
    ORDER BY file_id, workspace_id
    LIMIT @limit
) AS next
ORDER BY file_id, workspace_id`

// closePortalSQL has no arguments, so it is sent by the simple protocol, which
// closes the portal of the statement before.
const closePortalSQL = `SELECT`

// NextMovable returns uploads of the scope behind the one given, in the order of
// their ids; none at the end. With Take.Claim each is claimed for the
// transaction that the statement runs in (Within), if no other has it: by an
// advisory lock and not by the row's, because a row that is locked while its
// content is copied cannot be acked. A claim shares work out and guards nothing;
// it ends with the transaction.
func (u *Uploads) NextMovable(ctx context.Context, scope MoveScope, after UploadID, take Take) ([]Movable, error) {
	args := scope.args(u)
	args["workspace"], args["file"], args["limit"], args["content"], args["claim"] = wsArg(after.Workspace), fileArg(after.File), int64(take.Limit), take.Content, take.Claim
	rows, err := u.db.Query(ctx, nextMovableSQL, args)
	if err != nil {
		return nil, fmt.Errorf("look for uploads to move: %w", err)
	}
	var next []Movable
	var ws, file uuid.UUID
	var digest []byte
	var m Movable
	_, err = pgx.ForEachRow(rows, []any{&ws, &file, &m.Size, &digest, &m.MIMEType, &m.ObjectKey, &m.Claimed, &m.Content}, func() error {
		m.UploadID = UploadID{Workspace: storage.WorkspaceID(ws), File: storage.FileID(file)}
		m.SHA256 = storage.Digest{}
		copy(m.SHA256[:], digest)
		next = append(next, m)
		return nil
	})
	if err == nil && take.Claim {
		// A statement with arguments keeps its snapshot until the next one comes, and
		// VACUUM would spare rows for it as long as the transaction takes.
		_, err = u.db.Exec(ctx, closePortalSQL)
	}
	if err != nil {
		return nil, fmt.Errorf("look for uploads to move: %w", err)
	}
	return next, nil
}

// ObjectMove is an upload and the object that holds its content by now.
type ObjectMove struct {
	UploadID
	Key    string
	SHA256 storage.Digest
}

// Flip is what became of an ObjectMove.
type Flip int

const (
	// FlipLeft says that Get does not serve the upload any more, or not from its row, or the
	// row has another SHA-256.
	FlipLeft Flip = iota

	// FlipMoved says that it cites the object.
	FlipMoved

	// FlipBusy says that another transaction has the row, and nothing was done.
	FlipBusy
)

// moveToObjectsSQL finds each row by its key whatever the planner knows of the
// table: by subqueries that are not pulled up, and through arrays, which it takes for
// short. What is served by the statement's
// snapshot and was not flipped is locked, or was when it was its turn.
const moveToObjectsSQL = `
WITH move AS MATERIALIZED (
    SELECT workspace, file, key, digest::bytea AS digest
    FROM unnest(@workspaces::text[]::uuid[], @files::text[]::uuid[], @keys::text[], @digests::text[]) AS given (workspace, file, key, digest)
), free AS MATERIALIZED (
    SELECT move.*
    FROM move CROSS JOIN LATERAL (
        SELECT FROM pending_uploads
        WHERE workspace_id = move.workspace AND file_id = move.file AND ` + flippableSQL + `
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS locked
), flipped AS (
    UPDATE pending_uploads
    SET object_key = t.key, sha256 = t.digest, content = NULL
    FROM unnest(ARRAY(SELECT workspace FROM free), ARRAY(SELECT file FROM free),
                ARRAY(SELECT key FROM free), ARRAY(SELECT digest FROM free)) AS t (workspace, file, key, digest)
    WHERE workspace_id = t.workspace AND file_id = t.file
    RETURNING workspace_id, file_id
)
SELECT move.workspace, move.file, flipped.file_id IS NOT NULL
FROM move CROSS JOIN LATERAL (
    SELECT FROM pending_uploads
    WHERE workspace_id = move.workspace AND file_id = move.file AND ` + flippableSQL + `
    OFFSET 0
) AS served
LEFT JOIN flipped ON flipped.workspace_id = move.workspace AND flipped.file_id = move.file`

const flippableSQL = `content IS NOT NULL AND (sha256 IS NULL OR sha256 = move.digest) AND ` + servedSQL

// MoveToObjects has uploads cite their objects and drops their inline content, in
// one statement, where Get serves an upload still and from its row. It waits for no
// other transaction, so one whose row is locked keeps nobody from the others. What
// the result does not name is FlipLeft. After an error all may have moved, or none.
func (u *Uploads) MoveToObjects(ctx context.Context, moves ...ObjectMove) (map[UploadID]Flip, error) {
	workspaces, files := make([]string, len(moves)), make([]string, len(moves))
	keys, digests := make([]string, len(moves)), make([]string, len(moves))
	for i, m := range moves {
		workspaces[i], files[i], keys[i], digests[i] = m.Workspace.String(), m.File.String(), m.Key, `\x`+m.SHA256.String()
	}
	rows, err := u.db.Query(ctx, moveToObjectsSQL, pgx.NamedArgs{
		"workspaces": workspaces, "files": files, "keys": keys, "digests": digests, "acked": u.readAfterAck,
	})
	if err != nil {
		return nil, fmt.Errorf("move %d uploads to objects: %w", len(moves), err)
	}
	flips := make(map[UploadID]Flip, len(moves))
	var ws, file uuid.UUID
	var moved bool
	if _, err := pgx.ForEachRow(rows, []any{&ws, &file, &moved}, func() error {
		flip := FlipBusy
		if moved {
			flip = FlipMoved
		}
		flips[UploadID{Workspace: storage.WorkspaceID(ws), File: storage.FileID(file)}] = flip
		return nil
	}); err != nil {
		return nil, fmt.Errorf("move %d uploads to objects: %w", len(moves), err)
	}
	return flips, nil
}

const moveToRowSQL = `
UPDATE pending_uploads
SET object_key = NULL, sha256 = @digest, content = @content::bytea
WHERE workspace_id = @workspace AND file_id = @file AND object_key = @key
  AND size_bytes = octet_length(@content::bytea) AND (sha256 IS NULL OR sha256 = @digest) AND ` + servedSQL

// MoveToRow puts the content of an upload into its row, if Get serves the upload
// still and from the object of that key. It reports whether it did. After an error
// it may have.
func (u *Uploads) MoveToRow(ctx context.Context, id UploadID, key string, digest storage.Digest, content []byte) (bool, error) {
	tag, err := u.db.Exec(ctx, moveToRowSQL, pgx.NamedArgs{
		"workspace": wsArg(id.Workspace), "file": fileArg(id.File), "key": key, "digest": digest[:], "content": content, "acked": u.readAfterAck,
	})
	if err != nil {
		return false, fmt.Errorf("move upload %s of workspace %s to its row: %w", id.File, id.Workspace, err)
	}
	return tag.RowsAffected() == 1, nil
}

const placementSQL = `
SELECT coalesce(object_key, ''), sweeping_at IS NOT NULL
FROM pending_uploads
WHERE workspace_id = @workspace AND file_id = @file`

// Placement returns the key of the object that an upload cites, in whatever state
// it is; "" for inline content. final says that this stays: the row is being
// swept, or it is gone, and then it cites nothing.
func (u *Uploads) Placement(ctx context.Context, id UploadID) (key string, final bool, err error) {
	err = u.db.QueryRow(ctx, placementSQL, pgx.NamedArgs{"workspace": wsArg(id.Workspace), "file": fileArg(id.File)}).Scan(&key, &final)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", true, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("look where upload %s of workspace %s lies: %w", id.File, id.Workspace, err)
	}
	return key, final, nil
}
