package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/molecule-ai/pendinguploads/internal/doctor"
	"github.com/molecule-ai/pendinguploads/internal/server"
)

// doctorCmd takes the parts of serve's settings one by one: serve refuses what does
// not fit together at once, doctor says so in a line and goes on.
type doctorCmd struct {
	server.Database `embed:""`
	server.Objects  `embed:""`
	server.Uploads  `embed:""`
	server.Delivery `embed:""`
	server.Access   `embed:""`
	server.HTTP     `embed:""`
	server.Cleanup  `embed:""`
	server.Feed     `embed:""`
	server.Log      `embed:""`

	JSON    bool          `name:"json" help:"Print one JSON object with all checks."`
	Strict  bool          `help:"Exit with 1 when there are warnings."`
	Fix     bool          `help:"Install the lifecycle and CORS rules that are missing, after asking."`
	Yes     bool          `short:"y" help:"With --fix: do not ask."`
	Timeout time.Duration `default:"15s" help:"How long each check may take."`
}

// Help is what --help shows besides.
func (doctorCmd) Help() string {
	return `Give it the settings of serve. It prints one line for each check:

    ok|warn|FAIL|skip  NAME: FINDING — fix: WHAT TO DO

and goes on after a failure; skip is a check that an earlier line leaves without a meaning. Nothing is changed, except
that probe objects are put below S3_PREFIX/.doctor/ and removed again, and that --fix installs rules. docs/doctor.md
has all checks with their causes.

Exit codes: 0 (warnings included), 1 (warnings, with --strict), 2 (a check failed).

Examples:

    pendinguploads doctor
    pendinguploads doctor --strict --json | jq -r '.checks[] | select(.status != "ok") | .name'
    pendinguploads doctor --fix
    pendinguploads doctor --fix --yes`
}

// Exit codes of doctor.
const (
	exitWarnings = 1
	exitFailures = 2
)

func (c *doctorCmd) settings() server.Config {
	return server.Config{
		Database: c.Database, Objects: c.Objects, Uploads: c.Uploads, Delivery: c.Delivery, Access: c.Access,
		HTTP: c.HTTP, Cleanup: c.Cleanup, Feed: c.Feed, Log: c.Log,
	}
}

func (c *doctorCmd) Run(ctx context.Context, con console) error {
	if c.Fix && !c.Yes && !isInteractive(con.in) {
		return usage(errors.New("--fix asks, and standard input is no terminal; --yes does without"))
	}
	// Without a logger: what the service would log of a failure is in a line.
	d := doctor.New(doctor.Config{Settings: c.settings(), Timeout: c.Timeout})
	defer d.Close()
	report := func(r doctor.Result) { _, _ = fmt.Fprintln(con.out, printable(r.String())) }
	if c.JSON {
		report = func(doctor.Result) {}
	}
	results := d.Run(ctx, report)
	var failed error
	if c.Fix && ctx.Err() == nil {
		results, failed = c.fix(ctx, con, d, results, report)
	}
	if err := ctx.Err(); err != nil {
		return local(errInterrupted)
	}
	return errors.Join(c.finish(con.out, results), failed)
}

// fix shows what it is going to set, asks, and sets it.
func (c *doctorCmd) fix(ctx context.Context, con console, d *doctor.Doctor, results []doctor.Result, report func(doctor.Result)) ([]doctor.Result, error) {
	remedies := d.Remedies(results)
	if len(remedies) == 0 {
		con.warn("nothing to set up")
		return results, nil
	}
	for _, r := range remedies {
		con.warn("to be set: %s", printable(r.Text))
	}
	if !c.Yes && !confirmed(ctx, con, "Set it?") {
		con.warn("nothing was set")
		return results, nil
	}
	results, err := d.Apply(ctx, remedies, results, report)
	if err != nil {
		return results, &exitError{exitFailures, fmt.Errorf("set up: %s", oneLine(err))}
	}
	return results, nil
}

// confirmed asks for a y on the terminal. An interrupt is a no.
func confirmed(ctx context.Context, con console, question string) bool {
	_, _ = fmt.Fprintf(con.err, "%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(con.in).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		_, _ = fmt.Fprintln(con.err)
		return false
	case a := <-answer:
		return a == "y" || a == "yes"
	}
}

// finish prints the end and decides the exit code.
func (c *doctorCmd) finish(out io.Writer, results []doctor.Result) error {
	count := map[doctor.Status]int{}
	for _, r := range results {
		count[r.Status]++
	}
	if c.JSON {
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		if err := e.Encode(map[string]any{"checks": results}); err != nil {
			return local(fmt.Errorf("print: %w", err))
		}
	}
	text := fmt.Sprintf("%d ok, %d warnings, %d failures, %d skipped",
		count[doctor.OK], count[doctor.Warning], count[doctor.Failure], count[doctor.Skipped])
	switch {
	case count[doctor.Failure] > 0:
		return &exitError{exitFailures, errors.New(text)}
	case count[doctor.Warning] > 0 && c.Strict:
		return &exitError{exitWarnings, errors.New(text)}
	case !c.JSON:
		_, _ = fmt.Fprintln(out, text)
	}
	return nil
}

// isInteractive reports whether a person can answer on r.
func isInteractive(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) //nolint:gosec // descriptors are small
}
