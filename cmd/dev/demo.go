package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/server"
)

// demoCmd does the main job.
type demoCmd struct{}

// Run starts everything afresh, does the job and takes everything down. It
// works on a database and a bucket of its own, also where the servers are the
// user's.
func (demoCmd) Run(ctx context.Context, con console) (err error) {
	stack, err := startStack(ctx, con, "")
	if err != nil {
		return err
	}
	cleanup := context.WithoutCancel(ctx)
	defer func() { err = errors.Join(err, stack.Stop(cleanup)) }()
	databaseURL, err := stack.CreateDatabase(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stack.DropDatabase(cleanup, databaseURL)) }()
	s3, err := stack.S3().CreateBucket(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s3.RemoveBucket(cleanup)) }()
	cfg, err := configure(databaseURL, s3)
	if err != nil {
		return err
	}
	cfg.ListenAddr, cfg.AdminToken, cfg.ReadAfterAck, cfg.InlineMaxBytes = "localhost:0", rand.Text(), false, 0
	service, err := serve(ctx, cfg, warnings(con))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, service.stop()) }()
	con.say("serving: %s on %s", service.base, s3.Endpoint)
	return demo{con: con, cfg: cfg, s3: s3, base: service.base}.run(ctx)
}

// warnings is a logger for what should not happen in a demo.
func warnings(con console) *slog.Logger {
	return slog.New(slog.NewTextHandler(con.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// demo is the job, against a running service.
type demo struct {
	con  console
	cfg  server.Config
	s3   devstack.S3
	base string
}

// run does the steps in order and stops at the first that goes wrong.
func (d demo) run(ctx context.Context) error {
	admin := api{base: d.base, token: d.cfg.AdminToken}
	workspace, err := register(ctx, admin, "demo")
	if err != nil {
		return err
	}
	d.con.say("registered: workspace %s in poll mode", workspace.id)

	sent := []file{newFile("note.txt", "text/plain", 4<<10), newFile("photo.png", "image/png", 1<<20), newFile("archive.zip", "application/zip", 25<<20)}
	begin := time.Now()
	if err := upload(ctx, admin, workspace.id, sent); err != nil {
		return err
	}
	d.con.say("uploaded: 3 files of 4 KiB, 1 MiB and 25 MiB in one request, in %s", since(begin))
	if err := d.expect(ctx, "staged", workspace.id, len(sent), false); err != nil {
		return err
	}
	if err := sendMessage(ctx, admin, workspace.id, sent); err != nil {
		return err
	}
	d.con.say("message: posted, citing the 3 files; queued")

	if err := d.poll(ctx, workspace, sent); err != nil {
		return err
	}
	if err := d.expect(ctx, "before the sweep", workspace.id, len(sent), true); err != nil {
		return err
	}
	if err := d.sweep(ctx, len(sent)); err != nil {
		return err
	}
	if err := d.expect(ctx, "after the sweep", workspace.id, 0, true); err != nil {
		return err
	}
	d.con.say("done: every byte arrived, nothing is left")
	return nil
}

// poll is the workspace's side: feed, fetch, write, ack, rewrite.
func (d demo) poll(ctx context.Context, workspace registration, sent []file) error {
	folder, err := os.MkdirTemp("", "pendinguploads-demo-")
	if err != nil {
		return fmt.Errorf("make the workspace's folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(folder) }()
	p := poller{api: api{base: d.base, token: workspace.token}, workspace: workspace.id, folder: folder}
	begin := time.Now()
	message, err := p.untilMessage(ctx)
	if err != nil {
		return err
	}
	d.con.say("polled: %d upload rows, then the message", len(p.received))
	if err := compare(sent, p.received); err != nil {
		return err
	}
	d.con.say("fetched: 3 files, written to disk, SHA-256 as sent, in %s", since(begin))
	for _, f := range sent {
		d.con.say("    %x %s", f.sum, f.name)
	}
	d.con.say("acked: 3 files")
	if err := allRewritten(message, p.local); err != nil {
		return err
	}
	d.con.say("delivered: the message, with 3 local paths in place of the URIs")
	again, err := p.feed(ctx)
	if err != nil {
		return err
	}
	if len(again) != 0 {
		return fmt.Errorf("poll again: got %d rows after the last one, want none", len(again))
	}
	if err := p.call(ctx, http.MethodGet, p.path(sent[0].id, "content"), "", nil, nil); !isStatus(err, http.StatusNotFound) {
		return fmt.Errorf("fetch an acked file again: want status 404, got %w", orSuccess(err))
	}
	d.con.say("polled again: nothing new; an acked file is gone for its workspace")
	return nil
}

// sweep runs the product's sweep with retention 0.
func (d demo) sweep(ctx context.Context, want int) error {
	cfg := d.cfg
	cfg.AckRetention = -1 // 0 stands for the default; below it nothing is retained
	result, err := server.SweepOnce(ctx, cfg, warnings(d.con))
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	if result.Acked != want {
		return fmt.Errorf("sweep: removed %d acked files, want %d", result.Acked, want)
	}
	d.con.say("swept: %d acked, %d expired", result.Acked, result.Expired)
	return nil
}

// expect shows what lies in the bucket and the table and compares it.
func (d demo) expect(ctx context.Context, when, workspace string, files int, acked bool) error {
	found, err := look(ctx, d.cfg.DatabaseURL, d.s3, workspace)
	if err != nil {
		return err
	}
	found.show(d.con, when)
	if err := found.holds(files, acked); err != nil {
		return fmt.Errorf("%s: %w", when, err)
	}
	return nil
}

func since(begin time.Time) time.Duration { return time.Since(begin).Round(time.Millisecond) }

var errSuccess = errors.New("status 200")

func orSuccess(err error) error {
	if err == nil {
		return errSuccess
	}
	return err
}
