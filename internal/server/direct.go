package server

import (
	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
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

// conditions asks the object store about conditional writes; nil where nobody
// knows.
func conditions(objects blob.Store, prefix string) staging.Conditions {
	store, ok := objects.(*s3blob.Store)
	if !ok {
		return nil
	}
	admin, err := store.Admin(prefix)
	if err != nil {
		return nil // direct uploads do without
	}
	return admin
}
