package server

import (
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

// direct is the store for direct uploads; nil where there are none.
func (u Uploads) direct(store *staging.Store) storage.Direct {
	if u.DirectTTL == 0 {
		return nil
	}
	return store
}
