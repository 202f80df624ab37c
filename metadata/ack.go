package metadata

import (
	"context"
	"fmt"

	"github.com/molecule-ai/pendinguploads/storage"
)

// MarkFetched sets the fetched time to now, every time it is called. It sees
// what Get sees. storage.ErrNotFound.
func (u *Uploads) MarkFetched(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) error {
	tag, err := u.db.Exec(ctx, u.sql.markFetched, its(ws, f, u.readAfterAck)...)
	if err != nil {
		return fmt.Errorf("mark upload %s of workspace %s fetched: %w", f, ws, translate(err))
	}
	if tag.RowsAffected() == 0 {
		return storage.ErrNotFound
	}
	return nil
}

// Ack sets the acked time of a live upload where it is not set. A second call
// succeeds while the row is live and changes nothing. storage.ErrNotFound.
func (u *Uploads) Ack(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) error {
	tag, err := u.db.Exec(ctx, u.sql.ack, its(ws, f)...)
	if err != nil {
		return fmt.Errorf("ack upload %s of workspace %s: %w", f, ws, translate(err))
	}
	if tag.RowsAffected() > 0 {
		return nil
	}
	// Acked before, or by somebody else just now, or not there.
	var live bool
	if err := u.db.QueryRow(ctx, u.sql.live, its(ws, f)...).Scan(&live); err != nil {
		return fmt.Errorf("ack upload %s of workspace %s: %w", f, ws, translate(err))
	}
	if !live {
		return storage.ErrNotFound
	}
	return nil
}
