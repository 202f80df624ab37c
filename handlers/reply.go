package handlers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
)

const jsonType = "application/json; charset=utf-8"

// answer adapts a handler: it prepares the connection's deadlines, runs it, and
// writes the error that it returns.
func (s *Server) answer(h handlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = s.startBody(w, r)
		if err := h(w, r); err != nil {
			s.writeError(w, r, err)
		}
	})
}

// writeError is the only writer of errors.
func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	f := failureOf(err)
	if f.status >= http.StatusInternalServerError {
		s.log.LogAttrs(r.Context(), slog.LevelError, "request failed",
			slog.String("method", r.Method), slog.String("route", r.Pattern),
			slog.Int("status", f.status), slog.Any("error", err))
	} else {
		s.log.LogAttrs(r.Context(), slog.LevelDebug, "request refused",
			slog.String("method", r.Method), slog.String("route", r.Pattern),
			slog.Int("status", f.status), slog.Any("error", err))
	}
	if f.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(f.retry.Seconds())))
	}
	body := errorBody(f)
	s.send(w, r, f.status, body)
}

// errorBody is {"error":TEXT,...} with the keys in the table's order.
func errorBody(f *failure) []byte {
	var b bytes.Buffer
	b.WriteString(`{"error":`)
	b.Write(mustCompact(f.text))
	for _, fl := range f.fields {
		b.WriteByte(',')
		b.Write(mustCompact(fl.key))
		b.WriteByte(':')
		b.Write(mustCompact(fl.value))
	}
	b.WriteByte('}')
	return b.Bytes()
}

// mustCompact is for texts, numbers and plain structures, which always encode.
func mustCompact(v any) []byte {
	b, err := compact(v)
	if err != nil {
		panic(fmt.Sprintf("handlers: encode %T: %v", v, err))
	}
	return b
}

// compact encodes without blanks, inside nested raw JSON too, and leaves <, >
// and & as they are: scripts search replies for literal fragments.
func compact(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// writeJSON answers with v. An error means that nothing was written.
func (s *Server) writeJSON(w http.ResponseWriter, r *http.Request, status int, v any) error {
	body, err := compact(v)
	if err != nil {
		return fmt.Errorf("encode reply: %w", err)
	}
	s.send(w, r, status, body)
	return nil
}

// send writes a whole JSON reply. A client that is gone is no error of ours.
func (s *Server) send(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", jsonType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	if _, err := s.slowGuard(w, r).Write(body); err != nil {
		s.log.LogAttrs(r.Context(), slog.LevelDebug, "reply not delivered",
			slog.String("route", r.Pattern), slog.Any("error", err))
	}
}
