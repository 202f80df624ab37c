package handlers

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/molecule-ai/pendinguploads/metadata"
)

// Subprotocols of /ws, contract 2.19. Browsers cannot set a header on a
// WebSocket, so the token travels as the name of a protocol that is never
// chosen.
const (
	wsProtocol   = "molecule-ws"
	wsAuthPrefix = "molecule-auth."
)

const (
	// streamTick is how often a live connection is probed and its token looked at
	// again, so that a revoked one does not listen on.
	streamTick = 25 * time.Second
	// streamWrite bounds one event, one probe.
	streamWrite = 10 * time.Second
)

// websocket answers GET /ws with live events: a workspace's token gets its own,
// the admin token everybody's.
func (s *Server) websocket(w http.ResponseWriter, r *http.Request) error {
	token, sent := socketToken(r)
	if !sent {
		return errMissingWorkspaceToken
	}
	c, err := s.authenticate(r.Context(), token)
	if err != nil {
		return err
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Upgrade", "websocket")
		return errUpgradeRequired
	}
	// Before the handshake, so that a client misses nothing from then on.
	var sub *subscription
	if c.admin {
		sub = s.cfg.Hub.subscribeAll()
	} else {
		sub = s.cfg.Hub.subscribe(c.token.WorkspaceID)
	}
	defer s.cfg.Hub.unsubscribe(sub)
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols: []string{wsProtocol},
		// The library knows only the server's own origin.
		InsecureSkipVerify: s.originAllowed(r),
	})
	if err != nil {
		s.log.LogAttrs(r.Context(), slog.LevelDebug, "websocket handshake failed", slog.Any("error", err))
		return nil // Accept has answered
	}
	s.metrics.websockets.Inc()
	defer s.metrics.websockets.Dec()
	s.serveSocket(r.Context(), conn, sub, token, c)
	return nil
}

// socketToken is the token of the handshake: of the subprotocol, or for clients
// that can, of the Authorization header.
func socketToken(r *http.Request) (string, bool) {
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for _, protocol := range strings.Split(line, ",") {
			encoded, ok := strings.CutPrefix(strings.TrimSpace(protocol), wsAuthPrefix)
			if !ok {
				continue
			}
			token, err := hex.DecodeString(encoded)
			return string(token), err == nil && len(token) > 0
		}
	}
	return bearer(r)
}

// serveSocket sends events until either side ends it.
func (s *Server) serveSocket(ctx context.Context, conn *websocket.Conn, sub *subscription, token string, c caller) {
	ctx, cancel := context.WithCancel(ctx)
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer cancel()
		discardMessages(ctx, conn)
	}()
	code, reason := s.pumpSocket(ctx, conn, sub, token, c)
	if reason != "" {
		_ = conn.Close(code, reason) // the client may be gone
	}
	_ = conn.CloseNow()
	cancel()
	<-read
}

// pumpSocket returns why the server ends the connection; no reason means that
// the client has.
func (s *Server) pumpSocket(ctx context.Context, conn *websocket.Conn, sub *subscription, token string, c caller) (websocket.StatusCode, string) {
	tick := time.NewTicker(streamTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return 0, ""
		case <-s.stopping():
			return websocket.StatusGoingAway, "server is shutting down"
		case encoded, ok := <-sub.events:
			if !ok && sub.slow {
				return websocket.StatusTryAgainLater, "too far behind"
			}
			if !ok {
				return websocket.StatusPolicyViolation, "workspace removed"
			}
			if within(ctx, func(ctx context.Context) error { return conn.Write(ctx, websocket.MessageText, encoded) }) != nil {
				return 0, ""
			}
		case <-tick.C:
			if !s.stillValid(ctx, token, c) {
				return websocket.StatusPolicyViolation, "token is no longer valid"
			}
			if within(ctx, conn.Ping) != nil {
				return 0, ""
			}
		}
	}
}

func within(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, streamWrite)
	defer cancel()
	return f(ctx)
}

// discardMessages reads what a client sends, which means nothing here, so that
// its pongs and its close are seen. It returns when the connection ends.
func discardMessages(ctx context.Context, conn *websocket.Conn) {
	for {
		_, message, err := conn.Reader(ctx)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, message); err != nil {
			return
		}
	}
}

// stillValid looks at a token again. A failure to do so is no reason to cut
// anybody off.
func (s *Server) stillValid(ctx context.Context, token string, c caller) bool {
	if c.admin {
		return true
	}
	_, err := s.cfg.Tokens.Resolve(ctx, token)
	return !errors.Is(err, metadata.ErrTokenNotFound)
}
