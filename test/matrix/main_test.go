package matrix

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/molecule-ai/pendinguploads/internal/servertest"
)

func TestMain(m *testing.M) {
	servertest.Main(m, func() error {
		return goleak.Find(
			// Idle connections of the SDK's own client outlive it by design.
			goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
			goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		)
	})
}
