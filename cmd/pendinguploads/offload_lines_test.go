package main

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/storage/offload"
)

func TestOffloadSaysHowFarItIsEveryTenSeconds(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}}))
	now := time.Unix(1e9, 0)
	l := newOffloadLines(log, offloadCount{Rows: 100, Bytes: 1000}, func() time.Time { return now })
	for rows := range int64(31) { // one each second
		l.note(offload.Result{Rows: rows, Bytes: 10 * rows, Left: 1})
		now = now.Add(time.Second)
	}
	now = now.Add(time.Minute)
	l.note(offload.Result{Rows: 120, Bytes: 1200, Corrupt: 2}) // rows came meanwhile
	want := `msg=progress rows=10 of_rows=100 bytes=100 of_bytes=1000 left=1 corrupt=0 eta=1m30s
msg=progress rows=20 of_rows=100 bytes=200 of_bytes=1000 left=1 corrupt=0 eta=1m20s
msg=progress rows=30 of_rows=100 bytes=300 of_bytes=1000 left=1 corrupt=0 eta=1m10s
msg=progress rows=120 of_rows=100 bytes=1200 of_bytes=1000 left=0 corrupt=2
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}
