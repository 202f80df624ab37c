// Package doctor examines what the service depends on, with the settings and in
// the ways of the service itself: the database, the bucket, and what has to be
// set up around them. It changes nothing but probe objects below
// <prefix>/.doctor/, which it removes again; what it can set up, it does on
// request alone.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/molecule-ai/pendinguploads/internal/server"
)

// Status is the outcome of a check.
type Status string

// Outcomes. Skipped is a check that another one's failure leaves without a
// meaning.
const (
	OK      Status = "ok"
	Warning Status = "warn"
	Failure Status = "fail"
	Skipped Status = "skip"
)

// Result is what one check found.
type Result struct {
	Name    string `json:"name"`
	Status  Status `json:"status"`
	Finding string `json:"finding"`
	Fix     string `json:"fix,omitempty"` // what to do about it
}

// String is the result's line.
func (r Result) String() string {
	status := string(r.Status)
	if r.Status == Failure {
		status = strings.ToUpper(status)
	}
	line := fmt.Sprintf("%-4s  %s: %s", status, r.Name, r.Finding)
	if r.Fix != "" {
		line += " — fix: " + r.Fix
	}
	return line
}

// DefaultTimeout bounds one check.
const DefaultTimeout = 15 * time.Second

// Config says what is examined.
type Config struct {
	Settings server.Config

	// Credentials of the object store are the SDK's default chain when nil.
	Credentials aws.CredentialsProvider

	// Timeout bounds one check; default DefaultTimeout.
	Timeout time.Duration

	// Logger hears what the packages that are used have to say; default none.
	Logger *slog.Logger
}

// Doctor examines once. It is not safe for concurrent use.
type Doctor struct {
	cfg    Config
	usable map[string]bool // checks that others may build on
	database
	objects
}

// New returns a Doctor. It calls nobody.
func New(cfg Config) *Doctor {
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Doctor{cfg: cfg, usable: map[string]bool{}}
}

// Run does every check in turn, whatever the ones before it found, and hands each
// result to report at once. It ends early with ctx alone, removing its probes all
// the same.
func (d *Doctor) Run(ctx context.Context, report func(Result)) []Result {
	return d.run(ctx, checks(d.cfg.Settings.S3Bucket != ""), report)
}

// Close ends the connections that Run made.
func (d *Doctor) Close() {
	if d.pool != nil {
		d.pool.Close()
	}
	if d.client != nil {
		d.client.CloseIdleConnections()
	}
}

func (d *Doctor) run(ctx context.Context, list []check, report func(Result)) []Result {
	var results []Result
	for _, c := range list {
		if ctx.Err() != nil && !c.always {
			continue
		}
		r := d.examine(ctx, c)
		results = append(results, r)
		report(r)
	}
	return results
}

// check is one line.
type check struct {
	name   string
	needs  []string // checks that must have found something usable
	always bool     // even after an interrupt
	run    func(*Doctor, context.Context) verdict
}

// verdict is what a check says.
type verdict struct {
	status  Status
	finding string
	fix     string
	usable  bool // for the checks that build on it
}

func ok(format string, args ...any) verdict {
	return verdict{status: OK, finding: fmt.Sprintf(format, args...), usable: true}
}

func warn(fix, format string, args ...any) verdict {
	return verdict{status: Warning, finding: fmt.Sprintf(format, args...), fix: fix, usable: true}
}

func fail(fix, format string, args ...any) verdict {
	return verdict{status: Failure, finding: fmt.Sprintf(format, args...), fix: fix}
}

func skip(format string, args ...any) verdict {
	return verdict{status: Skipped, finding: fmt.Sprintf(format, args...)}
}

// errSlow is the cause of a check's end after its time.
var errSlow = errors.New("no answer in time")

func (d *Doctor) examine(ctx context.Context, c check) Result {
	v := d.verdict(ctx, c)
	d.usable[c.name] = v.usable
	return Result{Name: c.name, Status: v.status, Finding: oneLine(v.finding), Fix: v.fix}
}

func (d *Doctor) verdict(ctx context.Context, c check) verdict {
	for _, need := range c.needs {
		if !d.usable[need] {
			return skip("not examined, see %s", need)
		}
	}
	if c.always {
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, d.cfg.Timeout, errSlow)
	defer cancel()
	v := c.run(d, ctx)
	if cause := context.Cause(ctx); errors.Is(cause, errSlow) && v.status != OK {
		v.finding = fmt.Sprintf("%v (%v): %s", errSlow, d.cfg.Timeout, v.finding)
	}
	return v
}
