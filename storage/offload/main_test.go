package offload_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

func TestMain(m *testing.M) {
	devstack.Main(m, func() error { return goleak.Find() })
}
