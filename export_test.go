package pendinguploads

import (
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

// WithTestHooks puts the conformance suite's hooks around the rows, and its memory
// and the service's caps of a request in the place of none.
func WithTestHooks(rows func(staging.Rows) staging.Rows, budget staging.Budget) Option {
	return func(s *settings) {
		s.hook, s.budget = rows, budget
		s.maxFiles, s.maxRequestBytes = storage.MaxFilesPerBatch, storage.DefaultMaxRequestBytes
	}
}

// Staging is the implementation below a Store.
func (s *Store) Staging() *staging.Store { return s.staging }
