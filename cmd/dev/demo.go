package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"slices"
	"time"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/client/inbox"
	"github.com/molecule-ai/pendinguploads/handlers/wire"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/server"
	"github.com/molecule-ai/pendinguploads/storage"
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
	canvas, token, err := register(ctx, d.base, d.cfg.AdminToken, "demo")
	if err != nil {
		return err
	}
	defer canvas.Close()
	d.con.say("registered: workspace %s in poll mode", canvas.Workspace())

	sent := []file{newFile("note.txt", "text/plain", 4<<10), newFile("photo.png", "image/png", 1<<20), newFile("archive.zip", "application/zip", 25<<20)}
	begin := time.Now()
	staged, err := upload(ctx, canvas, sent)
	if err != nil {
		return err
	}
	d.con.say("uploaded: 3 files of 4 KiB, 1 MiB and 25 MiB in one request, in %s", since(begin))
	if err := d.expect(ctx, "staged", canvas, len(sent), false); err != nil {
		return err
	}
	if err := canvas.Send(ctx, client.Message{Text: "please look at these", Files: staged}); err != nil {
		return err
	}
	d.con.say("message: posted, citing the 3 files; queued")

	if err := d.receive(ctx, canvas, token, staged, sent); err != nil {
		return err
	}
	n := len(sent) + liveFiles
	if err := d.expect(ctx, "before the sweep", canvas, n, true); err != nil {
		return err
	}
	if err := d.sweep(ctx, n); err != nil {
		return err
	}
	if err := d.expect(ctx, "after the sweep", canvas, 0, true); err != nil {
		return err
	}
	d.con.say("done: every byte arrived, nothing is left")
	return nil
}

// receive is the workspace's side: an inbox that finds what was staged while it
// was away, and then gets files as they are uploaded.
func (d demo) receive(ctx context.Context, canvas *client.Client, token string, staged []wire.UploadedFile, sent []file) (err error) {
	begin := time.Now()
	l, err := openLaptop(ctx, d.base, canvas.Workspace(), token)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.stop()) }()
	files := make([]inbox.File, len(sent))
	for i := range files {
		if files[i], err = l.file(ctx, sent); err != nil {
			return err
		}
	}
	d.con.say("received: 3 files, written to disk, SHA-256 as sent, acked, in %s", since(begin))
	for _, f := range files {
		d.con.say("    %s %s", f.SHA256, f.Name)
	}
	if err := l.message(ctx, len(sent)); err != nil {
		return err
	}
	d.con.say("delivered: the message, with 3 local paths in place of the URIs")
	if err := d.live(ctx, canvas, l); err != nil {
		return err
	}
	id, err := storage.ParseFileID(path.Base(staged[0].URI))
	if err != nil {
		return fmt.Errorf("URI %s: %w", staged[0].URI, err)
	}
	if _, err := l.client.Fetch(ctx, id, client.WriterSink(io.Discard), client.FetchOptions{}); !errors.Is(err, client.ErrNotFound) {
		return fmt.Errorf("fetch an acked file again: want status 404, got %w", orSuccess(err))
	}
	d.con.say("fetched again: an acked file is gone for its workspace")
	return nil
}

// liveFiles is how many files are uploaded while the inbox runs.
const liveFiles = 5

// live uploads while the inbox waits for what comes.
func (d demo) live(ctx context.Context, canvas *client.Client, l *laptop) error {
	took := make([]time.Duration, liveFiles)
	for i := range took {
		one := []file{newFile(fmt.Sprintf("live-%d.txt", i+1), "text/plain", 4<<10)}
		if _, err := upload(ctx, canvas, one); err != nil {
			return err
		}
		answered := time.Now()
		if _, err := l.file(ctx, one); err != nil {
			return err
		}
		took[i] = since(answered)
	}
	slices.Sort(took)
	d.con.say("live: %d files of 4 KiB uploaded one by one, each in the folder and acked %s (median) after its upload was answered", liveFiles, took[liveFiles/2])
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
func (d demo) expect(ctx context.Context, when string, canvas *client.Client, files int, acked bool) error {
	found, err := look(ctx, d.cfg.DatabaseURL, d.s3, canvas.Workspace().String())
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
