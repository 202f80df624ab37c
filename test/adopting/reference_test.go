package adopting

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads"
)

// reference is what platforms run today: the statements of contract 3.1, 3.2 and
// 3.4, bytes in the row. It knows of no column, rule or id of this module.
type reference struct{ db *sql.DB }

var _ pendinguploads.FullStorage = reference{}

const (
	referencePut = `
INSERT INTO pending_uploads (workspace_id, content, size_bytes, filename, mimetype)
VALUES ($1, $2, $3, $4, $5)
RETURNING file_id`

	referenceGet = `
SELECT file_id, workspace_id, content, filename, mimetype, size_bytes, created_at, fetched_at, acked_at, expires_at
FROM pending_uploads
WHERE file_id = $1 AND acked_at IS NULL AND expires_at > now()`

	referenceMarkFetched = `
UPDATE pending_uploads SET fetched_at = now()
WHERE file_id = $1 AND acked_at IS NULL AND expires_at > now()`

	referenceAck = `
UPDATE pending_uploads SET acked_at = now()
WHERE file_id = $1 AND acked_at IS NULL AND expires_at > now()`

	referenceAcked = `
SELECT acked_at FROM pending_uploads WHERE file_id = $1 AND expires_at > now()`

	referenceSweep = `
WITH gone AS (
    DELETE FROM pending_uploads
    WHERE (acked_at IS NOT NULL AND acked_at < now() - make_interval(secs => $1))
       OR (acked_at IS NULL AND expires_at < now())
    RETURNING acked_at IS NOT NULL AS acked
)
SELECT count(*) FILTER (WHERE acked), count(*) FILTER (WHERE NOT acked) FROM gone`
)

func (r reference) Put(ctx context.Context, ws uuid.UUID, content []byte, filename, mimetype string) (uuid.UUID, error) {
	return insert(ctx, r.db, ws, pendinguploads.PutItem{Content: content, Filename: filename, Mimetype: mimetype})
}

func insert(ctx context.Context, q interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, ws uuid.UUID, item pendinguploads.PutItem,
) (id uuid.UUID, err error) {
	err = q.QueryRowContext(ctx, referencePut, ws, item.Content, len(item.Content), item.Filename, item.Mimetype).Scan(&id)
	return id, err
}

func (r reference) Get(ctx context.Context, id uuid.UUID) (f pendinguploads.Record, err error) {
	err = r.db.QueryRowContext(ctx, referenceGet, id).Scan(&f.FileID, &f.WorkspaceID, &f.Content, &f.Filename, &f.Mimetype,
		&f.SizeBytes, &f.CreatedAt, &f.FetchedAt, &f.AckedAt, &f.ExpiresAt)
	if errors.Is(err, sql.ErrNoRows) {
		return f, pendinguploads.ErrNotFound
	}
	return f, err
}

func (r reference) MarkFetched(ctx context.Context, id uuid.UUID) error {
	n, err := r.update(ctx, referenceMarkFetched, id)
	if err == nil && n == 0 {
		return pendinguploads.ErrNotFound
	}
	return err
}

func (r reference) Ack(ctx context.Context, id uuid.UUID) error {
	n, err := r.update(ctx, referenceAck, id)
	if err != nil || n == 1 {
		return err
	}
	var acked *time.Time
	err = r.db.QueryRowContext(ctx, referenceAcked, id).Scan(&acked)
	if errors.Is(err, sql.ErrNoRows) {
		return pendinguploads.ErrNotFound
	}
	return err
}

func (r reference) update(ctx context.Context, query string, id uuid.UUID) (int64, error) {
	result, err := r.db.ExecContext(ctx, query, id)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (r reference) PutBatch(ctx context.Context, ws uuid.UUID, items []pendinguploads.PutItem) ([]uuid.UUID, error) {
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	ids, err := r.PutBatchTx(ctx, tx, ws, items)
	if err != nil {
		return nil, errors.Join(err, tx.Rollback())
	}
	return ids, tx.Commit()
}

func (r reference) PutBatchTx(ctx context.Context, tx *sql.Tx, ws uuid.UUID, items []pendinguploads.PutItem) ([]uuid.UUID, error) {
	ids := make([]uuid.UUID, len(items))
	for i, item := range items {
		var err error
		if ids[i], err = insert(ctx, tx, ws, item); err != nil {
			return nil, fmt.Errorf("item %d: %w", i, err)
		}
	}
	return ids, nil
}

func (r reference) Sweep(ctx context.Context, retention time.Duration) (s pendinguploads.SweepResult, err error) {
	err = r.db.QueryRowContext(ctx, referenceSweep, int64(max(retention, 0)/time.Second)).Scan(&s.Acked, &s.Expired)
	return s, err
}
