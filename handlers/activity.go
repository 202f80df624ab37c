package handlers

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
)

// maxSinceSecs is what since_secs is capped at, 30 days (contract 2.5.1).
const maxSinceSecs = 2_592_000

// listActivity answers GET /workspaces/{id}/activity with a bare array, at once
// or, with wait, as soon as there is something to put into it.
func (s *Server) listActivity(w http.ResponseWriter, r *http.Request) error {
	ws, err := pathWorkspace(r)
	if err != nil {
		return err
	}
	q, err := parseFeedQuery(r.URL.Query())
	if err != nil {
		return err
	}
	wait, err := parseWait(r.URL.Query().Get("wait"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait+s.cfg.Timeouts.Answer)
	defer cancel()
	entries, err := s.awaitPage(r.WithContext(ctx), ws, q, wait)
	switch {
	case errors.Is(err, metadata.ErrCursorNotFound):
		return errCursorGone.because(err)
	case errors.Is(err, errInvalidWorkspaceToken):
		return err
	case err != nil:
		return errQuery.because(err)
	}
	base := s.baseURL(r)
	rows := make([]wire.Activity, 0, len(entries))
	for _, e := range entries {
		rows = append(rows, feedRow(e, q, base))
	}
	return s.writeJSON(w, r, http.StatusOK, rows)
}

// parseFeedQuery reads the query string. A parameter that is there but empty
// counts as absent.
func parseFeedQuery(v url.Values) (metadata.Query, error) {
	q := metadata.Query{Type: storable(v.Get("type")), Source: v.Get("source"), Limit: feedLimit(v.Get("limit"))}
	switch q.Source {
	case "", metadata.SourceCanvas, metadata.SourceAgent:
	default:
		return q, errBadSource
	}
	if p := v.Get("peer_id"); p != "" {
		id, err := uuid.Parse(p)
		if err != nil {
			return q, errBadPeerID.because(err)
		}
		q.Peer = &id
	}
	if p := v.Get("since_secs"); p != "" {
		since, ok := sinceSecs(p)
		if !ok {
			return q, errBadSince
		}
		q.Since = since
	}
	if p := v.Get("before_ts"); p != "" {
		before, err := time.Parse(time.RFC3339, p)
		if err != nil {
			return q, errBadBefore.because(err)
		}
		q.Before = &before
	}
	if p := v.Get("since_id"); p != "" {
		id, err := uuid.Parse(p)
		if err != nil {
			// 410 alone makes a poller drop a cursor that its file damaged.
			return q, errCursorGone.because(err)
		}
		q.After = &id
	}
	for _, flag := range strings.Split(v.Get("include"), ",") {
		q.PeerInfo = q.PeerInfo || strings.TrimSpace(flag) == "peer_info"
	}
	return q, nil
}

// storable replaces what PostgreSQL refuses in text, so that a type no row can
// have simply matches none.
func storable(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", "\uFFFD"), "\uFFFD")
}

// feedLimit falls back to the default for what is no positive number, and to
// the maximum for what is above it.
func feedLimit(p string) int {
	n, err := strconv.Atoi(p)
	if err != nil || n <= 0 {
		return metadata.DefaultPageLimit
	}
	return min(n, metadata.MaxPageLimit)
}

// sinceSecs caps numbers of any length.
func sinceSecs(p string) (time.Duration, bool) {
	n, err := strconv.ParseUint(p, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		n, err = maxSinceSecs, nil
	}
	if err != nil || n == 0 {
		return 0, false
	}
	return time.Duration(min(n, maxSinceSecs)) * time.Second, true
}

// feedRow is an entry as the answer to a query has it; base is the address of
// the service.
func feedRow(e metadata.Entry, q metadata.Query, base string) wire.Activity {
	row := activityRow(e)
	if q.PeerInfo {
		enrich(&row, e, base)
	}
	return row
}

// activityRow is an entry as the wire has it.
func activityRow(e metadata.Entry) wire.Activity {
	return wire.Activity{
		ID:           e.ID.String(),
		WorkspaceID:  e.WorkspaceID.String(),
		ActivityType: e.ActivityType,
		SourceID:     optionalID(e.SourceID),
		TargetID:     optionalID(e.TargetID),
		Method:       e.Method,
		Summary:      e.Summary,
		RequestBody:  e.RequestBody,
		ResponseBody: e.ResponseBody,
		ToolTrace:    e.ToolTrace,
		DurationMS:   e.DurationMS,
		Status:       e.Status,
		ErrorDetail:  e.ErrorDetail,
		CreatedAt:    e.CreatedAt.UTC().Format(wire.TimeFormat),
		Seq:          e.Seq,
	}
}

func optionalID(id *uuid.UUID) *string {
	if id == nil {
		return nil
	}
	text := id.String()
	return &text
}

// ackActivity records how far the workspace has read its feed: POST
// /workspaces/{id}/activity/ack.
func (s *Server) ackActivity(w http.ResponseWriter, r *http.Request) error {
	ws, err := pathWorkspace(r)
	if err != nil {
		return err
	}
	var body wire.AckSeq
	if err := readJSON(r, &body); err != nil {
		return badBody(err, errAckedSeqRequired)
	}
	switch {
	case body.AckedSeq == nil:
		return errAckedSeqRequired
	case *body.AckedSeq < 0:
		return errAckedSeqNegative
	}
	last, err := s.cfg.Activity.AckSeq(r.Context(), ws, *body.AckedSeq)
	switch {
	case errors.Is(err, storage.ErrWorkspaceNotFound):
		return errWorkspaceNotFound.because(err)
	case err != nil:
		return errRecordAck.because(err)
	}
	return s.writeJSON(w, r, http.StatusOK, wire.AckSeqReply{LastAckedSeq: last})
}
