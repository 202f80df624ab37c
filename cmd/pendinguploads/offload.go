package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/molecule-ai/pendinguploads/internal/server"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/offload"
)

type offloadCmd struct {
	server.Database `embed:""`
	server.Objects  `embed:""`
	server.Uploads  `embed:""`
	server.Log      `embed:""`

	Back   bool `xor:"mode" help:"Move the other way: content of at most INLINE_MAX_BYTES from S3 into PostgreSQL."`
	Verify bool `xor:"mode" help:"Move nothing: read every object that a row cites and compare its SHA-256."`
	DryRun bool `help:"Print how many rows and bytes there are to move or verify, and change nothing."`

	Workers        int     `default:"4" help:"Rows at a time, 1 to 64. Each may take two database connections."`
	Batch          int     `default:"16" help:"Rows claimed at a time, 1 to 256."`
	BytesPerSecond int64   `default:"0" help:"Content that this process moves a second, in bytes; 0: no limit."`
	RowsPerSecond  float64 `default:"0" help:"Rows that this process moves a second; 0: no limit."`
	JSON           bool    `name:"json" help:"Print one JSON object instead of a line."`
}

// Help is what --help shows besides.
func (offloadCmd) Help() string {
	return `Moves content to where new content of its size would go: what is larger than INLINE_MAX_BYTES from PostgreSQL to S3,
or with --back what is not from S3 to PostgreSQL. Give it the settings of the servers. Uploads, reads, acks and sweeps go
on meanwhile. It may be killed at any moment and started again, and run on several machines at once; rates are those of
one process. It moves what is served: rows that are acked go with READ_AFTER_ACK only, and are swept otherwise.

Exit codes: 0; 1 when content was found that is not what was staged, or the run did not reach its end; 2 for words
that make no sense. docs/offload.md has the whole move, and what to do about the table's size after it.

Examples:

    pendinguploads offload --dry-run
    pendinguploads offload
    pendinguploads offload --bytes-per-second 20000000 --workers 2
    pendinguploads offload --verify
    INLINE_MAX_BYTES=26214400 pendinguploads offload --back`
}

func (c *offloadCmd) mode() offload.Mode {
	switch {
	case c.Back:
		return offload.ToRows
	case c.Verify:
		return offload.Verify
	}
	return offload.ToObjects
}

// check finds what makes no sense before anything is opened.
func (c *offloadCmd) check() error {
	switch {
	case c.S3Bucket == "":
		return errors.New("S3_BUCKET is missing: there is no object store to move content to or from")
	case c.Workers < 1 || c.Workers > offload.MaxWorkers:
		return fmt.Errorf("--workers is %d, want 1 to %d", c.Workers, offload.MaxWorkers)
	case int64(c.Workers)*offload.ConnsPerWorker > int64(c.DatabaseMaxConns):
		return fmt.Errorf("--workers is %d, want at most %d: each takes %d of the %d connections of DATABASE_MAX_CONNS",
			c.Workers, c.DatabaseMaxConns/offload.ConnsPerWorker, offload.ConnsPerWorker, c.DatabaseMaxConns)
	case c.Batch < 1 || c.Batch > offload.MaxBatch:
		return fmt.Errorf("--batch is %d, want 1 to %d", c.Batch, offload.MaxBatch)
	case c.BytesPerSecond < 0:
		return fmt.Errorf("--bytes-per-second is %d, want 0 or more", c.BytesPerSecond)
	case !(c.RowsPerSecond >= 0) || math.IsInf(c.RowsPerSecond, 1):
		return fmt.Errorf("--rows-per-second is %v, want 0 or more", c.RowsPerSecond)
	case c.Back && c.InlineMaxBytes == 0:
		return errors.New("INLINE_MAX_BYTES is 0, so nothing belongs in PostgreSQL: give --back the value that the servers have")
	}
	return nil
}

func (c *offloadCmd) Run(ctx context.Context, con console) error {
	if err := c.check(); err != nil {
		return usage(err)
	}
	settings := server.Config{Database: c.Database, Objects: c.Objects, Uploads: c.Uploads, Log: c.Log}
	bars := newProgress(con.err, isTerminal(con.err) && !c.JSON)
	log := settings.LoggerTo(bars)
	opened, err := server.OpenOffload(ctx, settings, log)
	if err != nil {
		return err
	}
	defer opened.Close()
	cfg := opened.Config
	cfg.Mode, cfg.Workers, cfg.Batch = c.mode(), c.Workers, c.Batch
	cfg.BytesPerSecond, cfg.RowsPerSecond = c.BytesPerSecond, c.RowsPerSecond

	var s offloadSummary
	if s.Total.Rows, s.Total.Bytes, err = cfg.Uploads.CountMovable(ctx, offload.Scope(cfg.Mode, cfg.InlineMaxBytes)); err != nil {
		return err
	}
	if c.Back {
		// What is above the limit belongs in S3, and may surprise who wants to leave it.
		above := metadata.MoveScope{From: storage.PlacementObject, MinBytes: cfg.InlineMaxBytes + 1, MaxBytes: math.MaxInt64}
		if s.Stay.Rows, s.Stay.Bytes, err = cfg.Uploads.CountMovable(ctx, above); err != nil {
			return err
		}
	}
	if c.DryRun {
		return c.print(con, s, "to "+c.verb())
	}
	b := bars.bar(c.verb(), s.Total.Bytes)
	defer b.end()
	cfg.Progress = newOffloadLines(log, s.Total, time.Now).note
	if b != nil {
		cfg.Progress = func(r offload.Result) {
			b.grow(r.Bytes)
			b.set(r.Bytes)
		}
	}
	m, err := offload.New(cfg)
	if err != nil {
		return usage(err)
	}
	r, err := m.Run(ctx)
	b.end()
	s.Result = &r
	if printed := c.print(con, s, c.done()); printed != nil {
		return printed
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w: the same command goes on from here", errInterrupted)
	case err != nil:
		return fmt.Errorf("the same command goes on from here: %w", err)
	case r.Corrupt > 0:
		return fmt.Errorf("%d files are not what was staged; the log names them", r.Corrupt)
	}
	return nil
}

func (c *offloadCmd) verb() string {
	if c.Verify {
		return "verify"
	}
	return "move"
}

func (c *offloadCmd) done() string {
	if c.Verify {
		return "verified"
	}
	return "moved"
}

// offloadCount is a number of rows and of their bytes of content.
type offloadCount struct {
	Rows  int64 `json:"rows"`
	Bytes int64 `json:"bytes"`
}

// offloadSummary is what the command prints.
type offloadSummary struct {
	Total  offloadCount
	Stay   offloadCount
	Result *offload.Result
}

func (c *offloadCmd) print(con console, s offloadSummary, what string) error {
	if c.JSON {
		out := struct {
			Found   offloadCount  `json:"found"`
			Done    *offloadCount `json:"done,omitempty"`
			Left    *int64        `json:"left,omitempty"`
			Held    *int64        `json:"held,omitempty"`
			Corrupt *int64        `json:"corrupt,omitempty"`
			Failed  *int64        `json:"failed,omitempty"`
			Above   *offloadCount `json:"above_limit,omitempty"`
		}{Found: s.Total}
		if r := s.Result; r != nil {
			out.Done, out.Left, out.Held, out.Corrupt, out.Failed = &offloadCount{r.Rows, r.Bytes}, &r.Left, &r.Held, &r.Corrupt, &r.Failed
		}
		if c.Back {
			out.Above = &s.Stay
		}
		return json.NewEncoder(con.out).Encode(out)
	}
	line := fmt.Sprintf("%s: rows=%d bytes=%d", what, s.Total.Rows, s.Total.Bytes)
	if r := s.Result; r != nil {
		line = fmt.Sprintf("%s: rows=%d bytes=%d left=%d held=%d corrupt=%d failed=%d", what, r.Rows, r.Bytes, r.Left, r.Held, r.Corrupt, r.Failed)
	}
	if c.Back {
		line += fmt.Sprintf(" above_limit=%d", s.Stay.Rows)
	}
	_, err := fmt.Fprintln(con.out, line)
	return err
}
