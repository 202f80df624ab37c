package storage

import "context"

// Handouter is implemented beside Storage where a file can be found and marked
// as fetched in one step, for replies that are done with the record: a URL.
type Handouter interface {
	// GetFetched is Get and MarkFetched in one; the record has the new FetchedAt.
	// After any error the caller may go on with Get and MarkFetched. ErrNotFound.
	GetFetched(ctx context.Context, ws WorkspaceID, f FileID) (Record, error)
}
