// Command pendinguploads is the service and its administration, and what runs on
// the workspace's side.
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
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// cli is every command.
type cli struct {
	Serve       serveCmd       `cmd:"" help:"Serve the HTTP interface and sweep in the background."`
	Migrate     migrateCmd     `cmd:"" help:"Apply, roll back or show database migrations."`
	Sweep       sweepCmd       `cmd:"" help:"Sweep once, print what was removed, and exit."`
	Offload     offloadCmd     `cmd:"" help:"Move content between PostgreSQL and S3 while the servers run, or verify what was moved."`
	Doctor      doctorCmd      `cmd:"" help:"Examine database, bucket and settings, and explain what is wrong."`
	Workspace   workspaceCmd   `cmd:"" help:"Create, list and delete workspaces, mint tokens."`
	Healthcheck healthcheckCmd `cmd:"" help:"Ask a running server on this machine for its health; for container health checks."`
	Inbox       inboxCmd       `cmd:"" help:"Receive a workspace's files and messages, as they come."`
	Upload      uploadCmd      `cmd:"" help:"Upload files to a workspace, and optionally the message that cites them."`
	Activity    activityCmd    `cmd:"" help:"Print a workspace's activity feed."`
	Completion  completionCmd  `cmd:"" help:"Print a script that completes this program's words in a shell."`
	Version     versionCmd     `cmd:"" help:"Print the version."`
}

// output is where commands print results.
type output struct{ io.Writer }

// run parses and runs; it returns the exit code, one of exit.go's.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	exit := -1
	parser, err := kong.New(&cli{},
		kong.Name("pendinguploads"),
		kong.Description("Stages files for workspaces that cannot be called back. A flag can be set by the environment variable beside it."),
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
		_, _ = fmt.Fprintln(stderr, "pendinguploads:", withoutTokens(err.Error(), args))
		return 2
	}
	kctx.BindTo(ctx, (*context.Context)(nil))
	kctx.Bind(output{stdout}, console{in: stdin, out: stdout, err: stderr})
	if err := kctx.Run(); err != nil {
		_, _ = fmt.Fprintln(stderr, "pendinguploads:", oneLine(err))
		return exitCode(err)
	}
	return 0
}

// withoutTokens hides the values of --token and its like in the parser's words,
// which repeat what they do not understand: a token may begin with a dash.
func withoutTokens(text string, args []string) string {
	for i, arg := range args {
		flag, value, ok := strings.Cut(arg, "=")
		if !strings.HasPrefix(flag, "--") || !strings.HasSuffix(flag, "token") {
			continue
		}
		if !ok && i+1 < len(args) {
			value = args[i+1]
		}
		if value != "" {
			text = strings.ReplaceAll(text, value, "(hidden)")
		}
	}
	return text
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
