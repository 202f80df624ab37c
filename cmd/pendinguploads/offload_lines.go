package main

import (
	"log/slog"
	"time"

	"github.com/molecule-ai/pendinguploads/storage/offload"
)

// offloadEvery is how often a run says how far it is, where nobody sees a bar.
const offloadEvery = 10 * time.Second

// offloadLines are lines of the log that say how far a run is.
type offloadLines struct {
	log         *slog.Logger
	total       offloadCount
	now         func() time.Time
	began, last time.Time
}

func newOffloadLines(log *slog.Logger, total offloadCount, now func() time.Time) *offloadLines {
	began := now()
	return &offloadLines{log: log, total: total, now: now, began: began, last: began}
}

// note is called after every row, one call at a time.
func (l *offloadLines) note(r offload.Result) {
	now := l.now()
	if now.Sub(l.last) < offloadEvery {
		return
	}
	l.last = now
	attrs := []any{
		slog.Int64("rows", r.Rows), slog.Int64("of_rows", l.total.Rows), slog.Int64("bytes", r.Bytes), slog.Int64("of_bytes", l.total.Bytes),
		slog.Int64("left", r.Left), slog.Int64("corrupt", r.Corrupt),
	}
	if todo := l.total.Bytes - r.Bytes; r.Bytes > 0 && todo > 0 {
		eta := float64(now.Sub(l.began)) * float64(todo) / float64(r.Bytes)
		attrs = append(attrs, slog.Duration("eta", time.Duration(eta).Round(time.Second)))
	}
	l.log.Info("progress", attrs...)
}
