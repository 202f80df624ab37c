package devstack

import (
	"context"
	"fmt"
	"strings"
)

// Values of the DEVSTACK environment variable.
const (
	forceDocker = "docker"
	forceLocal  = "local"
)

// way is one way to get a server. start returns the server and a few words that
// say what it is; an error means the next way is tried, and its text becomes
// the reason.
type way[T any] struct {
	kind  string // forceDocker, forceLocal, or "" for a server named by the environment
	start func(ctx context.Context) (server T, what string, err error)
}

// choose takes the first way that works and reports it in one line. force, if
// not empty, leaves only the ways of that kind.
func choose[T any](ctx context.Context, log func(string), name, force string, ways []way[T]) (T, error) {
	var none T
	var reasons []string
	switch force {
	case "":
	case forceDocker, forceLocal:
		reasons = append(reasons, "DEVSTACK="+force)
	default:
		return none, fmt.Errorf("devstack: DEVSTACK=%q is neither %q nor %q", force, forceDocker, forceLocal)
	}
	for _, w := range ways {
		if force != "" && w.kind != force {
			continue
		}
		server, what, err := w.start(ctx)
		if err == nil {
			line := name + ": " + what
			if len(reasons) > 0 {
				line += ", because " + strings.Join(reasons, "; ")
			}
			log(line)
			return server, nil
		}
		if ctx.Err() != nil {
			return none, fmt.Errorf("devstack: start %s: %w", name, err)
		}
		reasons = append(reasons, oneLine(err.Error()))
		if w.kind == "" {
			// A server that was named is meant: another in its place would
			// hide the mistake.
			break
		}
	}
	return none, fmt.Errorf("devstack: no way to start %s: %s", name, strings.Join(reasons, "; "))
}

func oneLine(text string) string {
	return strings.Join(strings.Fields(text), " ")
}
