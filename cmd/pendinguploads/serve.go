package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/molecule-ai/pendinguploads/internal/server"
)

type serveCmd struct {
	server.Config `embed:""`
}

// gcPercent is lower than Go's 100: most of the heap is part buffers, which live
// long and hold no pointers, so collecting often is cheap, and letting garbage
// grow to their size again would double the process for nothing. GOGC overrides.
const gcPercent = 25

// gcFloorBytes is memory that is reserved, never touched and so never resident. It
// counts as heap: a process without uploads, whose heap is a few MiB, would collect
// after every MiB otherwise. So it does after 16 MiB.
const gcFloorBytes = 64 << 20

func (c *serveCmd) Run(ctx context.Context) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
		defer runtime.KeepAlive(make([]byte, gcFloorBytes))
	}
	return server.Run(ctx, c.Config, server.Options{Build: build()})
}

type healthcheckCmd struct {
	ListenAddr string        `env:"LISTEN_ADDR" default:":8080" help:"Address that the server listens on."`
	Timeout    time.Duration `default:"3s" help:"How long to wait."`
}

func (c *healthcheckCmd) Run(ctx context.Context) error {
	host, port, err := net.SplitHostPort(c.ListenAddr)
	if err != nil {
		return fmt.Errorf("LISTEN_ADDR is %q, want HOST:PORT or :PORT", c.ListenAddr)
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "localhost"
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/health", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("health: %s", resp.Status)
	}
	return nil
}
