package e2e

import (
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/molecule-ai/pendinguploads/internal/servertest"
)

func TestMain(m *testing.M) {
	zerolog.SetGlobalLevel(zerolog.Disabled) // the proxy's trouble logs every chunk
	servertest.Main(m, func() error {
		// The proxy leaves what it has of a connection behind when it is cut.
		return goleak.Find(
			goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"),
			goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).write"),
			goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"),
		)
	})
}

// testLogger logs what a test shows when it fails.
func testLogger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

func newRandom() *rand.Rand { return rand.New(rand.NewPCG(7, 11)) } //nolint:gosec // test data
