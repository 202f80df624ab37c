package client_test

import (
	"context"
	"log/slog"
	"time"
)

// waitLogger hands on the pauses that the client announces.
func waitLogger(f func(time.Duration)) *slog.Logger { return slog.New(waitHandler(f)) }

type waitHandler func(time.Duration)

func (waitHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h waitHandler) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "in" {
			h(a.Value.Duration())
		}
		return true
	})
	return nil
}

func (h waitHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h waitHandler) WithGroup(string) slog.Handler      { return h }
