package staging

import (
	"context"

	"github.com/molecule-ai/pendinguploads/storage"
)

var _ storage.Handouter = (*Store)(nil)

// GetFetched implements storage.Handouter.
func (s *Store) GetFetched(ctx context.Context, ws storage.WorkspaceID, f storage.FileID) (storage.Record, error) {
	r, err := s.rows.GetFetched(ctx, ws, f)
	if err != nil {
		return storage.Record{}, err
	}
	s.Attach(&r)
	return r, nil
}
