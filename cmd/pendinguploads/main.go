// Command pendinguploads is the service and its administration.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal drains; with the handlers taken away the second one ends
	// the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// cli is every command.
type cli struct {
	Serve       serveCmd       `cmd:"" help:"Serve the HTTP interface and sweep in the background."`
	Migrate     migrateCmd     `cmd:"" help:"Apply, roll back or show database migrations."`
	Sweep       sweepCmd       `cmd:"" help:"Sweep once, print what was removed, and exit."`
	Workspace   workspaceCmd   `cmd:"" help:"Create, list and delete workspaces, mint tokens."`
	Healthcheck healthcheckCmd `cmd:"" help:"Ask a running server on this machine for its health; for container health checks."`
	Version     versionCmd     `cmd:"" help:"Print the version."`
}

// output is where commands print results.
type output struct{ io.Writer }

// run parses and runs; it returns the exit code: 0, 1 for a failure, 2 for
// words that make no sense.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	exit := -1
	parser, err := kong.New(&cli{},
		kong.Name("pendinguploads"),
		kong.Description("Stages files for workspaces that cannot be called back. Every flag can be set by the environment variable beside it."),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exit = code }),
	)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "pendinguploads:", err)
		return 2
	}
	kctx, err := parser.Parse(args)
	if exit >= 0 {
		return exit
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "pendinguploads:", err)
		return 2
	}
	kctx.BindTo(ctx, (*context.Context)(nil))
	kctx.Bind(output{stdout})
	if err := kctx.Run(); err != nil {
		_, _ = fmt.Fprintln(stderr, "pendinguploads:", oneLine(err))
		return 1
	}
	return 0
}

// oneLine is the error's text without line breaks: drivers list one line for
// each address they tried.
func oneLine(err error) string {
	lines := strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' })
	for i, l := range lines {
		lines[i] = strings.TrimSpace(l)
	}
	return strings.Join(lines, "; ")
}
