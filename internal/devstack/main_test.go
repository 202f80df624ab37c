package devstack_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// childStateDir names, for a child of the tests about killed owners, the
// folder to note its servers in.
const childStateDir = "DEVSTACK_TEST_CHILD_STATE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childStateDir); dir != "" {
		child(dir)
	}
	devstack.Main(m, func() error { return goleak.Find() })
}

// child starts both servers, prints where they are and waits to be killed.
func child(dir string) {
	stack, err := devstack.Start(context.Background(), devstack.Config{StateDir: dir}) //nolint:forbidigo // a program of its own
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(stack.PostgresURL())
	fmt.Println(stack.S3().Endpoint)
	select {}
}
