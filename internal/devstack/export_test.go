package devstack

import (
	"context"
	"time"
)

// What the tests of this package reach for.
const (
	ForceDocker = forceDocker
	ForceLocal  = forceLocal
	PullAnswer  = pullAnswer
)

var (
	ErrNoRegistry = errNoRegistry
	ErrPullStall  = errPullStall
)

type ImageAPI = imageAPI

func EnsureImage(ctx context.Context, api ImageAPI, ref string, answer time.Duration, log func(string)) error {
	return ensureImage(ctx, api, ref, answer, log)
}

// Way is a way whose server is a text.
type Way struct {
	Kind  string
	Start func(ctx context.Context) (server, what string, err error)
}

func Choose(ctx context.Context, log func(string), force string, ways ...Way) (string, error) {
	list := make([]way[string], len(ways))
	for i, w := range ways {
		list[i] = way[string]{kind: w.Kind, start: w.Start}
	}
	return choose(ctx, log, "thing", force, list)
}

// FindEngine looks for the container engine.
func (s *Stack) FindEngine(ctx context.Context) error {
	_, err := s.findEngine(ctx)
	return err
}

// Own makes the owner folder, which reaps what killed owners left.
func (s *Stack) Own(ctx context.Context) error {
	_, err := s.own(ctx)
	return err
}

// Download gets PostgreSQL's programs into dir.
func (s *Stack) Download(ctx context.Context, dir string) (bin string, err error) {
	return s.download(ctx, dir)
}
