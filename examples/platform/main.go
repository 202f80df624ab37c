// Command platform is a small agent platform that stages chat uploads for
// workspaces nobody can call. It embeds package pendinguploads, and its flag
// -storage swaps the one constructor.
package main

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	_ "github.com/lib/pq"

	"github.com/molecule-ai/pendinguploads"
	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
)

// config is what flags and environment say.
type config struct {
	listen       string
	database     string // URL
	token        string // who may call
	storage      string // postgres or s3
	s3           s3blob.Config
	createBucket bool
	options      []pendinguploads.Option
	ackRetention time.Duration
}

func main() {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	if err := start(ctx, os.Args[1:], os.Getenv, log); err != nil && !errors.Is(err, flag.ErrHelp) {
		log.LogAttrs(ctx, slog.LevelError, "platform ends", slog.Any("error", err))
		os.Exit(1)
	}
}

func start(ctx context.Context, args []string, getenv func(string) string, log *slog.Logger) error {
	cfg, err := parse(args, getenv)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.listen)
	if err != nil {
		return err
	}
	return run(ctx, cfg, listener, log)
}

func parse(args []string, getenv func(string) string) (config, error) {
	cfg := config{
		database: getenv("DATABASE_URL"), token: getenv("PLATFORM_TOKEN"),
		s3: s3blob.Config{
			Bucket: getenv("S3_BUCKET"), Endpoint: getenv("S3_ENDPOINT"), PublicEndpoint: getenv("S3_PUBLIC_ENDPOINT"),
			Region: getenv("S3_REGION"), PathStyle: getenv("S3_USE_PATH_STYLE") == "true",
		},
		createBucket: getenv("S3_CREATE_BUCKET") == "true",
	}
	// Where it is not set, keys begin as those of the command offload do.
	if prefix := getenv("S3_PREFIX"); prefix != "" {
		cfg.options = append(cfg.options, pendinguploads.WithKeyPrefix(prefix))
	}
	flags := flag.NewFlagSet("platform", flag.ContinueOnError)
	flags.StringVar(&cfg.listen, "listen", "127.0.0.1:8090", "`address` to serve on")
	flags.StringVar(&cfg.storage, "storage", "postgres", "where bytes go: postgres or s3")
	inlineMax := flags.Int64("inline-max-bytes", 0, "with s3: files of up to `n` bytes stay in the row")
	readAfterAck := flags.Bool("read-after-ack", false, "acked files stay readable until they are swept")
	flags.DurationVar(&cfg.ackRetention, "ack-retention", pendinguploads.DefaultAckRetention, "how long acked files stay")
	if err := flags.Parse(args); err != nil {
		return cfg, err
	}
	switch {
	case cfg.database == "":
		return cfg, errors.New("DATABASE_URL is not set")
	case cfg.token == "":
		return cfg, errors.New("PLATFORM_TOKEN is not set")
	case cfg.storage != "postgres" && cfg.storage != "s3":
		return cfg, fmt.Errorf("-storage is %q, want postgres or s3", cfg.storage)
	case cfg.storage == "s3" && cfg.s3.Bucket == "":
		return cfg, errors.New("S3_BUCKET is not set")
	case *inlineMax < 0:
		return cfg, fmt.Errorf("-inline-max-bytes is %d, want 0 or more", *inlineMax)
	}
	cfg.options = append(cfg.options, pendinguploads.WithInlineMaxBytes(*inlineMax))
	if *readAfterAck {
		cfg.options = append(cfg.options, pendinguploads.WithReadAfterAck())
	}
	return cfg, nil
}

// openUploads is where the storage is chosen: nothing else of the platform knows.
func openUploads(ctx context.Context, db *sql.DB, cfg config) (*pendinguploads.Store, error) {
	if cfg.storage == "postgres" {
		return pendinguploads.NewPostgres(db, cfg.options...), nil
	}
	pool, err := blob.NewPool(blob.PoolConfig{}) // memory for what is on its way to S3
	if err != nil {
		return nil, err
	}
	cfg.s3.Pool = pool
	objects, err := s3blob.Open(ctx, cfg.s3)
	if err != nil {
		return nil, err
	}
	if err := objects.EnsureBucket(ctx, cfg.createBucket); err != nil {
		return nil, err
	}
	if err := pendinguploads.Migrate(ctx, db); err != nil {
		return nil, err
	}
	return pendinguploads.NewS3(db, objects, cfg.options...), nil
}

//go:embed schema.sql
var schema string

// run serves on the listener until ctx ends, and returns when nothing of it runs
// any more.
func run(ctx context.Context, cfg config, listener net.Listener, log *slog.Logger) error {
	defer func() { _ = listener.Close() }()
	db, err := sql.Open("postgres", cfg.database)
	if err != nil {
		return fmt.Errorf("DATABASE_URL: %w", err)
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(20)
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return fmt.Errorf("make tables: %w", err)
	}
	cfg.options = append(cfg.options, pendinguploads.WithLogger(log))
	uploads, err := openUploads(ctx, db, cfg)
	if err != nil {
		return err
	}

	p := &platform{db: db, uploads: uploads, batches: uploads, token: cfg.token, log: log}
	server := &http.Server{Handler: p.routes(), ReadHeaderTimeout: 10 * time.Second}
	ctx, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	background.Go(func() { pendinguploads.StartSweeper(ctx, uploads, cfg.ackRetention) })
	background.Go(func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			_ = server.Close() // requests that do not end are cut off
		}
	})
	log.LogAttrs(ctx, slog.LevelInfo, "serving", slog.String("address", listener.Addr().String()), slog.String("storage", cfg.storage))
	err = server.Serve(listener)
	cancel()
	background.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
