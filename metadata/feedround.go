package metadata

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/molecule-ai/pendinguploads/storage"
)

// roundTimeout bounds a round; the next one tries again.
const roundTimeout = 10 * time.Second

// The round's two statements: for waiters with a token, and for those without
// one. They list whose right to wait is gone, and whose feed's head is beyond what
// they have read, by their place in the arguments, from 1.
//
// Arguments are arrays in text form, as bytes: they lie in buffers that are used
// again, and the long one comes last, so that pgx's grow once. Its own arrays
// would leave megabytes of garbage for thousands of waiters every few seconds.
const (
	roundTokensSQL = `
SELECT k.n, w.id IS NULL, coalesce(f.last_seq, 0)
FROM unnest(convert_from(@read::bytea, 'UTF8')::bigint[], convert_from(@ids::bytea, 'UTF8')::uuid[])
    WITH ORDINALITY AS k (seq, id, n)
LEFT JOIN (workspace_auth_tokens t JOIN workspaces w ON w.id = t.workspace_id AND w.status <> 'removed')
    ON t.id = k.id AND t.revoked_at IS NULL
LEFT JOIN activity_feeds f ON f.workspace_id = w.id
WHERE w.id IS NULL OR f.last_seq > k.seq`

	roundWorkspacesSQL = `
SELECT k.n, w.id IS NULL, coalesce(f.last_seq, 0)
FROM unnest(convert_from(@read::bytea, 'UTF8')::bigint[], convert_from(@ids::bytea, 'UTF8')::uuid[])
    WITH ORDINALITY AS k (seq, id, n)
LEFT JOIN workspaces w ON w.id = k.id AND w.status <> 'removed'
LEFT JOIN activity_feeds f ON f.workspace_id = w.id
WHERE w.id IS NULL OR f.last_seq > k.seq`
)

// watched is who waits: the waiters of one workspace with one token, or with
// none.
type watched struct {
	ws    storage.WorkspaceID
	token uuid.UUID
	read  int64 // the least that one of them has read
}

// list is what one statement of a round asks about.
type list struct {
	watched   []watched
	ids, read []byte // the arguments
}

// rounds runs a round whenever it is time or somebody asks, as long as somebody
// waits. Failing is logged once until a round succeeds: waiters stay.
func (fw *FeedWatch) rounds(ctx context.Context) {
	tick := time.NewTicker(fw.cfg.Poll)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-fw.kick:
		}
		err := fw.round(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failing {
			fw.log.LogAttrs(ctx, slog.LevelWarn, "feeds cannot be polled for those who wait", slog.Any("error", err))
		}
		failing = err != nil
	}
}

func (fw *FeedWatch) round(ctx context.Context) error {
	tokens, workspaces := &fw.tokens, &fw.workspaces
	fw.survey(tokens, workspaces)
	var b pgx.Batch
	for _, ask := range []struct {
		sql  string
		list *list
	}{{roundTokensSQL, tokens}, {roundWorkspacesSQL, workspaces}} {
		if len(ask.list.watched) > 0 {
			b.Queue(ask.sql, pgx.NamedArgs{"ids": ask.list.ids, "read": ask.list.read}).
				Query(func(rows pgx.Rows) error { return fw.tell(rows, ask.list.watched) })
		}
	}
	if b.Len() == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	if err := fw.cfg.DB.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("poll feeds for %d tokens and %d workspaces: %w", len(tokens.watched), len(workspaces.watched), err)
	}
	return nil
}

// survey fills the lists with everybody who waits now.
func (fw *FeedWatch) survey(tokens, workspaces *list) {
	fw.mu.RLock()
	defer fw.mu.RUnlock()
	tokens.watched, workspaces.watched = tokens.watched[:0], workspaces.watched[:0]
	for ws, subs := range fw.feeds {
		ofTokens, ofWorkspaces := len(tokens.watched), len(workspaces.watched)
		for _, s := range subs {
			if s.token == uuid.Nil {
				workspaces.note(ofWorkspaces, ws, s)
			} else {
				tokens.note(ofTokens, ws, s)
			}
		}
	}
	tokens.encode(func(w watched) uuid.UUID { return w.token })
	workspaces.encode(func(w watched) uuid.UUID { return uuid.UUID(w.ws) })
}

// note adds a waiter of ws, whose others are listed from first on.
func (l *list) note(first int, ws storage.WorkspaceID, s *Subscription) {
	read := s.read.Load()
	for i := first; i < len(l.watched); i++ {
		if l.watched[i].token == s.token {
			l.watched[i].read = min(l.watched[i].read, read)
			return
		}
	}
	l.watched = append(l.watched, watched{ws, s.token, read})
}

// encode makes the arguments.
func (l *list) encode(id func(watched) uuid.UUID) {
	l.ids, l.read = append(l.ids[:0], '{'), append(l.read[:0], '{')
	for i, w := range l.watched {
		if i > 0 {
			l.ids, l.read = append(l.ids, ','), append(l.read, ',')
		}
		key := id(w)
		l.ids = hex.AppendEncode(l.ids, key[:])
		l.read = strconv.AppendInt(l.read, w.read, 10)
	}
	l.ids, l.read = append(l.ids, '}'), append(l.read, '}')
}

// tell passes on what a statement found out.
func (fw *FeedWatch) tell(rows pgx.Rows, asked []watched) error {
	var n, head int64
	var ended bool
	_, err := pgx.ForEachRow(rows, []any{&n, &ended, &head}, func() error {
		fw.mu.RLock()
		defer fw.mu.RUnlock()
		of := asked[n-1]
		for _, s := range fw.feeds[of.ws] {
			switch {
			case s.token != of.token:
			case ended:
				s.waiter.End()
			case s.read.Load() < head:
				s.waiter.Wake()
			}
		}
		return nil
	})
	return err
}
