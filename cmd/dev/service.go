package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/alecthomas/kong"

	"github.com/molecule-ai/pendinguploads/handlers"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/server"
)

// service is the product, running in this process.
type service struct {
	base string // URL
	stop func() error
	done <-chan struct{} // closed when it has ended
}

// configure is the service's configuration from the environment, with the
// stack's servers in it.
func configure(databaseURL string, s3 devstack.S3) (server.Config, error) {
	var cfg server.Config
	parser, err := kong.New(&cfg)
	if err != nil {
		return cfg, fmt.Errorf("read the configuration: %w", err)
	}
	if _, err := parser.Parse([]string{
		"--database-url=" + databaseURL, "--migrate",
		"--s3-endpoint=" + s3.Endpoint, "--s3-region=" + s3.Region, "--s3-bucket=" + s3.Bucket,
		fmt.Sprintf("--s3-use-path-style=%t", s3.PathStyle), "--s3-create-bucket",
	}); err != nil {
		return cfg, fmt.Errorf("read the configuration: %w", err)
	}
	// Credentials travel by the SDK's own chain, whose first link this is.
	for key, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": s3.AccessKey, "AWS_SECRET_ACCESS_KEY": s3.SecretKey, "AWS_SESSION_TOKEN": s3.SessionToken,
	} {
		if err := os.Setenv(key, value); err != nil {
			return cfg, fmt.Errorf("set %s: %w", key, err)
		}
	}
	return cfg, nil
}

// serve runs the service until ctx ends or stop is called, and returns once it
// listens.
func serve(ctx context.Context, cfg server.Config, log *slog.Logger) (*service, error) {
	ctx, cancel := context.WithCancel(ctx)
	listening := make(chan net.Addr, 1)
	done := make(chan struct{})
	var failed error
	go func() {
		defer close(done)
		failed = server.Run(ctx, cfg, server.Options{
			Ready: func(addr net.Addr) { listening <- addr }, Build: handlers.Build{Version: "dev"}, Logger: log,
		})
	}()
	stop := func() error {
		cancel()
		<-done
		if failed != nil {
			return fmt.Errorf("serve: %w", failed)
		}
		return nil
	}
	select {
	case addr := <-listening:
		return &service{base: "http://" + reachable(addr), stop: stop, done: done}, nil
	case <-done:
		return nil, errors.Join(stop(), ctx.Err())
	}
}

// reachable is how a listener's address is called from this machine.
func reachable(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return addr.String()
	}
	return net.JoinHostPort("localhost", fmt.Sprint(tcp.Port))
}

// startStack starts the servers and reports each choice.
func startStack(ctx context.Context, con console, data string) (*devstack.Stack, error) {
	return devstack.Start(ctx, devstack.Config{
		Data: data,
		Log:  func(line string) { _, _ = fmt.Fprintln(con.err, "dev:", line) },
	})
}
