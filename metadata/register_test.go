package metadata_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// silentCommit is a database that does not answer the first commit. What becomes
// of its transaction is up to ends.
type silentCommit struct {
	metadata.DB
	ends func(tx pgx.Tx)
	lost bool
}

type silentTx struct {
	pgx.Tx
	db *silentCommit
}

func (s *silentCommit) Begin(ctx context.Context) (pgx.Tx, error) {
	tx, err := s.DB.Begin(ctx)
	return silentTx{tx, s}, err
}

func (tx silentTx) Commit(ctx context.Context) error {
	if tx.db.lost {
		return tx.Tx.Commit(ctx)
	}
	tx.db.lost = true
	tx.db.ends(tx.Tx)
	return io.ErrUnexpectedEOF
}

// A registration that bootstraps a workspace and gets no answer to its commit must
// not lock the workspace out: either it has the token, or nobody has.
func TestBootstrapWhoseCommitGoesUnanswered(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		commits bool
		later   bool // it ends only while the registration looks for it
	}{
		"committed": {true, false}, "rolled back": {false, false},
		"commits meanwhile": {true, true}, "rolls back meanwhile": {false, true},
	} {
		for who, known := range map[string]bool{"new workspace": false, "known workspace": true} {
			t.Run(name+", "+who, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				id := w.ws
				if !known {
					id = storage.WorkspaceID(uuid.New())
				}
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				end := func(tx pgx.Tx) {
					finish := tx.Rollback
					if test.commits {
						finish = tx.Commit
					}
					if err := finish(t.Context()); err != nil {
						t.Error(err)
					}
				}
				ended := make(chan struct{})
				db := &silentCommit{DB: w.pool, ends: func(tx pgx.Tx) {
					leave() // the caller's time is over as well
					if !test.later {
						end(tx)
						close(ended)
						return
					}
					go func() {
						defer close(ended)
						w.waitForLockWaiters(t, 1)
						end(tx)
					}()
				}}
				reg, err := metadata.NewWorkspaces(metadata.WorkspacesConfig{DB: db}).Register(ctx, registration(id))
				<-ended
				if !test.commits {
					if !errors.Is(err, metadata.ErrCommitUnknown) || reg.Token != "" {
						t.Errorf("token %q, %v; want none and ErrCommitUnknown", reg.Token, err)
					}
					if reg, err = w.workspaces.Register(t.Context(), registration(id)); err != nil || reg.Token == "" {
						t.Errorf("again: token %q, %v; want one", reg.Token, err)
					}
				} else if err != nil {
					t.Fatalf("the token is stored: %v", err)
				}
				if tok, err := w.tokens.Resolve(t.Context(), reg.Token); err != nil || tok.WorkspaceID != id {
					t.Errorf("token %q: %+v, %v", reg.Token, tok, err)
				}
				if list, err := w.tokens.List(t.Context(), id); err != nil || len(list) != 1 {
					t.Errorf("%d tokens, %v; want 1", len(list), err)
				}
			})
		}
	}
}
