package handlers

import (
	"bufio"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"time"
)

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int // 0 before the header is written
	bytes  int64
}

func (rec *recorder) WriteHeader(status int) {
	// 1xx other than a switch of protocols come before the real one.
	if rec.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		rec.status = status
	}
	rec.ResponseWriter.WriteHeader(status)
}

func (rec *recorder) Write(p []byte) (int, error) {
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	n, err := rec.ResponseWriter.Write(p)
	rec.bytes += int64(n)
	return n, err
}

// Hijack hands the connection over. Who takes it answers for itself; without a
// status by then it is going to be 200.
func (rec *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(rec.ResponseWriter).Hijack()
	if err == nil && rec.status == 0 {
		rec.status = http.StatusOK
	}
	return conn, rw, err
}

// Unwrap lets http.ResponseController reach the connection.
func (rec *recorder) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

// observe counts and logs each request under the label, and answers 500 where
// a handler panics.
func (s *Server) observe(label string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{ResponseWriter: w}
		start := time.Now()
		defer func() { //nolint:contextcheck // the request carries it
			took := time.Since(start)
			s.metrics.observe(r.Method, label, rec.status, took)
			s.log.LogAttrs(r.Context(), slog.LevelDebug, "request",
				slog.String("method", r.Method), slog.String("route", label),
				slog.Int("status", rec.status), slog.Int64("bytes", rec.bytes), slog.Duration("took", took))
		}()
		defer s.recoverPanic(rec, r, label)
		next.ServeHTTP(rec, r)
	})
}

// recoverPanic is deferred around a handler. Where the reply has begun the
// connection is cut, so that half of one never passes for a whole.
func (s *Server) recoverPanic(rec *recorder, r *http.Request, label string) {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler)
	}
	s.log.LogAttrs(r.Context(), slog.LevelError, "panic in handler",
		slog.String("method", r.Method), slog.String("route", label),
		slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
	if rec.status != 0 {
		panic(http.ErrAbortHandler)
	}
	s.send(rec, r, errInternal.status, errorBody(errInternal))
}
