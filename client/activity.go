package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
)

// Query selects rows of the workspace's activity feed (contract 2.5.1).
type Query struct {
	Type     string        // activity_type; empty: all
	After    string        // cursor: id of the last row consumed
	Since    time.Duration // without a cursor: rows younger than this, in whole seconds, up to 30 days; 0: all
	Before   string        // RFC 3339: rows strictly older
	Limit    int           // 0: the service's default, 100; at most 500
	PeerInfo bool          // names of the senders, and attachments
	Wait     time.Duration // long poll: how long the service may wait for a row, up to 60 s; services that cannot answer at once
}

func (q Query) values() url.Values {
	v := url.Values{}
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	set("type", q.Type)
	set("since_id", q.After)
	set("before_ts", q.Before)
	if q.Since > 0 && q.After == "" {
		v.Set("since_secs", strconv.FormatInt(max(int64(q.Since/time.Second), 1), 10))
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.PeerInfo {
		v.Set("include", "peer_info")
	}
	if q.Wait > 0 {
		v.Set("wait", q.Wait.String())
	}
	return v
}

// Activity reads one page of the feed: oldest first after a cursor, newest first
// without one. A page's size says nothing about whether there is more. One
// attempt. ErrCursorGone, ErrUnauthorized.
func (c *Client) Activity(ctx context.Context, q Query) ([]wire.Activity, error) {
	var rows []wire.Activity
	err := c.call(ctx, q.Wait+answerTime, http.MethodGet, c.workspacePath("/activity"), q.values(), nil, &rows)
	if err != nil {
		return nil, fmt.Errorf("read activity: %w", err)
	}
	return rows, nil
}

// oldest reads the oldest page of the window, oldest first; what is younger comes
// behind its last row. Pages are gone through newest first, and only one of them
// is held. A service that does not know before_ts has no more than its first page.
func (c *Client) oldest(ctx context.Context, q Query) ([]wire.Activity, error) {
	q.After, q.Before, q.Wait, q.Limit = "", "", 0, maxPage
	var page []wire.Activity
	for {
		rows, err := c.Activity(ctx, q)
		if err != nil {
			return nil, err
		}
		if !anyOlder(rows, page) {
			break
		}
		page = rows
		last := page[len(page)-1].CreatedAt
		at, err := time.Parse(time.RFC3339, last)
		if err != nil {
			return nil, fmt.Errorf("read activity: created_at of row %s: %w", page[len(page)-1].ID, err)
		}
		// Rows of one moment may be on both sides of a page's end.
		q.Before = at.Add(time.Microsecond).UTC().Format(time.RFC3339Nano)
	}
	slices.Reverse(page)
	return page, nil
}

// anyOlder reports whether rows go further back than a page that is known.
func anyOlder(rows, page []wire.Activity) bool {
	if len(rows) == 0 || len(page) == 0 {
		return len(rows) > 0
	}
	end := page[len(page)-1]
	known := func(id string) bool {
		return slices.ContainsFunc(page, func(a wire.Activity) bool { return a.ID == id })
	}
	last := rows[len(rows)-1]
	return last.CreatedAt <= end.CreatedAt && !known(last.ID)
}

// maxPage is the most rows of a page (contract 2.5.1).
const maxPage = 500

// AckActivity says that every row up to seq has been consumed, so that the
// service may prune them early. It returns the highest number said so far.
// ErrNotFound from services without the route.
func (c *Client) AckActivity(ctx context.Context, seq int64) (int64, error) {
	var reply wire.AckSeqReply
	if err := c.call(ctx, answerTime, http.MethodPost, c.workspacePath("/activity/ack"), nil, wire.AckSeq{AckedSeq: &seq}, &reply); err != nil {
		if answer := new(Error); errors.As(err, &answer) && answer.Status == http.StatusNotFound {
			err = errors.Join(ErrNotFound, err) // whoever says so: without the route there is no one else
		}
		return 0, fmt.Errorf("acknowledge activity up to %d: %w", seq, err)
	}
	return reply.LastAckedSeq, nil
}
