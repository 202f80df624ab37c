package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/metadata"
	"github.com/molecule-ai/pendinguploads/migrations"
	"github.com/molecule-ai/pendinguploads/storage/sweeper"
)

// Options are what a program passes beside the configuration.
type Options struct {
	// Ready, when set, is called once with the address served on.
	Ready func(addr net.Addr)
	Build handlers.Build
	// Logger replaces the one that the configuration describes.
	Logger *slog.Logger
}

// Run serves until ctx ends, then drains: no new connections, running requests
// finish within ShutdownTimeout, the sweeper stops between two batches. The
// error is one line that names what is wrong.
func Run(ctx context.Context, cfg Config, o Options) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	log := o.Logger
	if log == nil {
		log = cfg.Logger()
	}
	db, err := cfg.OpenDatabase(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := ensureSchema(ctx, cfg, log); err != nil {
		return err
	}

	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	hub := handlers.NewHub()
	watch := cfg.watch(db, log)
	activity := metadata.NewActivity(metadata.ActivityConfig{DB: db, Publisher: metadata.Publishers{watch, hub}, Notify: cfg.notifies()})
	store, rows, pool, err := OpenStaging(ctx, cfg.Objects, cfg.Uploads, db, activity, log)
	if err != nil {
		return err
	}
	registerPool(registry, pool)
	sweep, err := cfg.sweeper(store, activity, registry, log)
	if err != nil {
		return err
	}
	rate := cfg.RateLimit
	if rate == 0 {
		rate = -1
	}
	api, err := handlers.New(handlers.Config{
		Storage: store, Direct: cfg.direct(store), DirectTTL: cfg.DirectTTL, Uploads: rows, Quota: rows, Corrupt: rows, Activity: activity, Watch: watch, Hub: hub,
		Workspaces: metadata.NewWorkspaces(metadata.WorkspacesConfig{DB: db, OfflineAfter: cfg.OfflineAfter}),
		Tokens:     metadata.NewTokens(db),
		AdminToken: cfg.AdminToken, Registration: handlers.Registration(cfg.Registration), JoinToken: cfg.JoinToken, RegisterFailOpen: cfg.RegisterFailOpen,
		Limits: cfg.limits(), Delivery: cfg.delivery(), SigningKeys: cfg.URLSigningKeys, ReadAfterAck: cfg.ReadAfterAck, CORSOrigins: cfg.CORSOrigins, PublicURL: cfg.PublicURL, RateLimit: rate,
		Addresses:      handlers.Addresses{SaaS: cfg.WorkspaceNetworks != "public", Development: cfg.WorkspaceNetworks == "any"},
		ForwardTimeout: cfg.ForwardTimeout, Logger: log, Metrics: registry, Build: o.Build,
	})
	if err != nil {
		return err
	}

	// Not before: a start that fails says why in one line.
	for _, w := range cfg.Warnings() {
		log.LogAttrs(ctx, slog.LevelWarn, w)
	}
	servers, err := listen(ctx, cfg, api, registry, log, o.Ready)
	if err != nil {
		return err
	}
	var background sync.WaitGroup
	backgroundCtx, stop := context.WithCancel(ctx)
	defer background.Wait()
	defer stop()
	background.Go(func() { sweep.Run(backgroundCtx) })
	background.Go(func() { watch.Run(backgroundCtx) })
	return servers.serve(ctx, cfg.ShutdownTimeout, log)
}

// ensureSchema applies migrations where that is allowed and refuses a schema
// that does not fit otherwise.
func ensureSchema(ctx context.Context, cfg Config, log *slog.Logger) error {
	if cfg.Migrate {
		applied, err := migrations.Up(ctx, cfg.DatabaseURL, sets...)
		for _, a := range applied {
			log.LogAttrs(ctx, slog.LevelInfo, "migration applied", slog.String("set", string(a.Set)), slog.Int64("version", a.Version))
		}
		if err != nil {
			return err
		}
	}
	return migrations.Check(ctx, cfg.DatabaseURL, sets...)
}

func (c Config) sweeper(store sweeperStore, activity *metadata.Activity, reg prometheus.Registerer, log *slog.Logger) (*sweeper.Sweeper, error) {
	const day = 24 * time.Hour
	return sweeper.New(sweeper.Config{
		Storage: store, Retention: c.AckRetention, Interval: c.SweepInterval, OrphanGrace: c.OrphanGrace,
		Feed: pruner{activity, metadata.Retention{
			Acked: time.Duration(c.ActivityRetentionDays) * day, Hard: time.Duration(c.ActivityHardRetention) * day,
		}},
		FeedInterval: time.Duration(c.ActivityCleanupIntervalH) * time.Hour, Metrics: reg, Logger: log,
	})
}

func (f Feed) notifies() bool { return f.FeedNotify == "on" }

// watch wakes those who wait for a feed.
func (f Feed) watch(db *pgxpool.Pool, log *slog.Logger) *metadata.FeedWatch {
	cfg := metadata.FeedWatchConfig{DB: db, Logger: log}
	if f.notifies() {
		cfg.Listen = metadata.DialLike(db)
	}
	return metadata.NewFeedWatch(cfg)
}

// Logger is the logger that the configuration describes, on standard error.
func (l Log) Logger() *slog.Logger { return l.LoggerTo(os.Stderr) }

// LoggerTo is the logger that the configuration describes, on w.
func (l Log) LoggerTo(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(l.LogLevel)) // the parser allows known names only
	opts := &slog.HandlerOptions{Level: level}
	if l.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// group is the listeners of one process.
type group struct {
	main, metrics         *http.Server
	mainSock, metricsSock net.Listener
}

func listen(ctx context.Context, cfg Config, api *handlers.Server, registry *prometheus.Registry, log *slog.Logger, ready func(net.Addr)) (*group, error) {
	var lc net.ListenConfig
	g := &group{main: api.HTTPServer(cfg.ListenAddr)}
	var err error
	if g.mainSock, err = lc.Listen(ctx, "tcp", cfg.ListenAddr); err != nil {
		return nil, fmt.Errorf("LISTEN_ADDR: %w", err)
	}
	if cfg.MetricsAddr != "" {
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
		g.metrics = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute}
		if g.metricsSock, err = lc.Listen(ctx, "tcp", cfg.MetricsAddr); err != nil {
			return nil, errors.Join(fmt.Errorf("METRICS_ADDR: %w", err), g.mainSock.Close())
		}
	}
	log.LogAttrs(ctx, slog.LevelInfo, "serving", slog.String("addr", g.mainSock.Addr().String()))
	if ready != nil {
		ready(g.mainSock.Addr())
	}
	return g, nil
}

// serve runs the listeners until ctx ends or one of them fails, then drains.
func (g *group) serve(ctx context.Context, patience time.Duration, log *slog.Logger) error {
	failed := make(chan error, 2)
	var running sync.WaitGroup
	start := func(s *http.Server, l net.Listener) {
		running.Go(func() {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve on %s: %w", l.Addr(), err)
			}
		})
	}
	start(g.main, g.mainSock)
	if g.metrics != nil {
		start(g.metrics, g.metricsSock)
	}
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		log.LogAttrs(ctx, slog.LevelInfo, "shutting down; a second signal exits at once", slog.Duration("patience", patience))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if stop := g.main.Shutdown(ctx); stop != nil {
		log.LogAttrs(ctx, slog.LevelWarn, "requests were cut off at shutdown", slog.Any("error", stop))
		err = errors.Join(err, g.main.Close())
	}
	if g.metrics != nil {
		err = errors.Join(err, g.metrics.Close())
	}
	running.Wait()
	return err
}

// registerPool shows the upload memory as metrics.
func registerPool(reg prometheus.Registerer, pool *blob.Pool) {
	gauge := func(name, help string, f func(blob.PoolStats) float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return f(pool.Stats()) }))
	}
	gauge("pendinguploads_upload_memory_bytes", "Bytes of UPLOAD_MEMORY_BYTES in use.", func(s blob.PoolStats) float64 { return float64(s.InUseBytes) })
	gauge("pendinguploads_upload_memory_limit_bytes", "UPLOAD_MEMORY_BYTES.", func(s blob.PoolStats) float64 { return float64(s.BudgetBytes) })
	gauge("pendinguploads_uploads_waiting", "Uploads waiting for memory.", func(s blob.PoolStats) float64 { return float64(s.Waiting) })
}
