package client_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/molecule-ai/pendinguploads/internal/servertest"
)

func TestMain(m *testing.M) {
	servertest.Main(m, func() error { return goleak.Find() })
}
