package devstack

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// shared is the stack of a test binary. Tests of one binary share its servers,
// which is why it is the one variable of this package.
var shared = struct {
	stack func() *Stack
	main  atomic.Bool // Main runs, so what is started will be stopped
}{
	stack: sync.OnceValue(func() *Stack {
		return New(Config{Log: func(line string) { fmt.Fprintln(os.Stderr, "devstack: "+line) }})
	}),
}

// Main is the body of TestMain of every package that needs servers. It runs the
// tests, stops what they started, also when the process is interrupted or
// terminated, and exits with the tests' code. After a passed run and the stop
// it calls each check (for example one for goroutines left over), whose error
// fails the run.
func Main(m *testing.M, checks ...func() error) {
	shared.main.Store(true)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		received, ok := <-signals
		if !ok {
			return
		}
		signal.Stop(signals) // a second one ends the process at once
		stopShared()
		code := 1
		if number, ok := received.(syscall.Signal); ok {
			code = 128 + int(number)
		}
		os.Exit(code)
	}()
	code := m.Run()
	signal.Stop(signals)
	close(signals)
	if !stopShared() && code == 0 {
		code = 1
	}
	for _, check := range checks {
		if code != 0 {
			break
		}
		if err := check(); err != nil {
			fmt.Fprintln(os.Stderr, "devstack: after the tests: "+err.Error())
			code = 1
		}
	}
	os.Exit(code)
}

func stopShared() bool {
	if err := shared.stack().Stop(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "devstack: stop: "+err.Error())
		return false
	}
	return true
}

// stackFor is the shared stack, and a context for making what outlives tb.
func stackFor(tb testing.TB) (context.Context, *Stack) {
	tb.Helper()
	if !shared.main.Load() {
		tb.Fatal("devstack: the package's TestMain must call devstack.Main, or nothing stops the servers")
	}
	return context.WithoutCancel(tb.Context()), shared.stack()
}

// Database returns the URL of a fresh database with both migration sets
// applied. It is dropped when the test ends.
func Database(tb testing.TB) string {
	tb.Helper()
	ctx, stack := stackFor(tb)
	databaseURL, err := stack.CreateMigratedDatabase(ctx)
	return dropAfter(ctx, tb, stack, databaseURL, err)
}

// EmptyDatabase returns the URL of a fresh database without any table. It is
// dropped when the test ends.
func EmptyDatabase(tb testing.TB) string {
	tb.Helper()
	ctx, stack := stackFor(tb)
	databaseURL, err := stack.CreateDatabase(ctx)
	return dropAfter(ctx, tb, stack, databaseURL, err)
}

func dropAfter(ctx context.Context, tb testing.TB, stack *Stack, databaseURL string, err error) string {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	removeAfter(ctx, tb, stack, func(ctx context.Context) error { return stack.DropDatabase(ctx, databaseURL) })
	return databaseURL
}

// removeAfter removes something when the test ends, or when the stack is
// stopped in the middle of the test: the server may be one that stays.
func removeAfter(ctx context.Context, tb testing.TB, stack *Stack, remove func(context.Context) error) {
	tb.Helper()
	done, err := stack.onStop(ctx, remove)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		done()
		if err := remove(ctx); err != nil {
			tb.Error(err)
		}
	})
}

// MinIO returns the main S3 server with a fresh bucket, which is emptied and
// removed when the test ends.
func MinIO(tb testing.TB) S3 {
	tb.Helper()
	ctx, stack := stackFor(tb)
	server, err := stack.MinIO(ctx)
	return withBucket(ctx, tb, stack, server, err)
}

// VersityGW returns the second S3 server with a fresh bucket, which is emptied
// and removed when the test ends.
func VersityGW(tb testing.TB) S3 {
	tb.Helper()
	ctx, stack := stackFor(tb)
	server, err := stack.VersityGW(ctx)
	return withBucket(ctx, tb, stack, server, err)
}

func withBucket(ctx context.Context, tb testing.TB, stack *Stack, server S3, err error) S3 {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	server, err = server.CreateBucket(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	removeAfter(ctx, tb, stack, server.RemoveBucket)
	return server
}

// EachS3 runs f against every S3 server, in parallel subtests named after it.
func EachS3(t *testing.T, f func(t *testing.T, s3 S3)) {
	t.Helper()
	eachS3(t, map[string]func(testing.TB) S3{"minio": MinIO, "versitygw": VersityGW}, f)
}

func eachS3(t *testing.T, servers map[string]func(testing.TB) S3, f func(t *testing.T, s3 S3)) {
	t.Helper()
	for name, server := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, server(t))
		})
	}
}
