// Command dev is the workbench: it brings up PostgreSQL and an S3 server, runs
// the service on them, and shows that it works.
//
//	go run ./cmd/dev         serve until interrupted; print how to talk to it
//	go run ./cmd/dev demo    do the main job end to end, then clean up
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal stops everything in order; with the handlers taken
	// away the second one ends the process at once. What it leaves running is
	// stopped by the next start.
	context.AfterFunc(ctx, stop)
	// A reader of the output that goes away must not end the process before it
	// has cleaned up.
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// cli is every command.
type cli struct {
	Up   upCmd   `cmd:"" default:"withargs" help:"Bring everything up and serve until interrupted (default)."`
	Demo demoCmd `cmd:"" help:"Bring everything up, do the main job over HTTP, show the evidence, clean up."`
}

// console is where commands print: results to out, the choices of servers and
// the service's log to err.
type console struct{ out, err io.Writer }

func (c console) say(format string, args ...any) {
	_, _ = fmt.Fprintf(c.out, format+"\n", args...)
}

// run parses and runs; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	exit := -1
	parser, err := kong.New(&cli{},
		kong.Name("dev"),
		kong.Description("The workbench. DEVSTACK=docker|local, DATABASE_URL and S3_ENDPOINT choose the servers; the service's own variables are honoured too."),
		kong.UsageOnError(),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exit = code }),
	)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "dev:", err)
		return 2
	}
	kctx, err := parser.Parse(args)
	if exit >= 0 {
		return exit
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "dev:", err)
		return 2
	}
	kctx.BindTo(ctx, (*context.Context)(nil))
	kctx.Bind(console{out: stdout, err: stderr})
	if err := kctx.Run(); err != nil {
		_, _ = fmt.Fprintln(stderr, "dev:", err)
		return 1
	}
	return 0
}
