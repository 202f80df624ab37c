package devstack_test

import (
	"context"
	"errors"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// fakeEngine has an image or pulls it: each step waits, then gives a message.
type fakeEngine struct {
	present bool
	inspect error
	steps   []time.Duration
	refuse  error // of the registry, after the steps
}

func (f fakeEngine) ImageInspect(context.Context, string, ...client.ImageInspectOption) (client.ImageInspectResult, error) {
	if !f.present {
		return client.ImageInspectResult{}, f.inspect
	}
	return client.ImageInspectResult{}, nil
}

func (f fakeEngine) ImagePull(context.Context, string, client.ImagePullOptions) (client.ImagePullResponse, error) {
	return fakePull{fakeEngine: f}, nil
}

type fakePull struct {
	client.ImagePullResponse
	fakeEngine
}

func (fakePull) Close() error { return nil }

func (f fakePull) JSONMessages(ctx context.Context) iter.Seq2[jsonstream.Message, error] {
	return func(yield func(jsonstream.Message, error) bool) {
		for _, step := range f.steps {
			select {
			case <-ctx.Done():
				yield(jsonstream.Message{}, ctx.Err())
				return
			case <-time.After(step):
			}
			if !yield(jsonstream.Message{Status: "Downloading"}, nil) {
				return
			}
		}
		if f.refuse != nil {
			yield(jsonstream.Message{}, f.refuse)
		}
	}
}

func TestEnsureImage(t *testing.T) {
	t.Parallel()
	missing := errdefs.ErrNotFound
	refused := errors.New("no such image in the registry")
	broken := errors.New("engine is broken")
	for name, test := range map[string]struct {
		engine fakeEngine
		want   error
		within time.Duration
		lines  int
	}{
		"an image that is there is not pulled": {
			engine: fakeEngine{present: true},
		},
		"a missing image is pulled however long it takes, as long as it goes on": {
			engine: fakeEngine{inspect: missing, steps: []time.Duration{3 * time.Second, 50 * time.Second, 50 * time.Second}},
			within: 104 * time.Second, lines: 1,
		},
		"a registry that does not answer is given up within five seconds": {
			engine: fakeEngine{inspect: missing, steps: []time.Duration{time.Hour}},
			want:   devstack.ErrNoRegistry, within: 5 * time.Second,
		},
		"a pull that stops in the middle is given up": {
			engine: fakeEngine{inspect: missing, steps: []time.Duration{time.Second, time.Hour}},
			want:   devstack.ErrPullStall, within: 2 * time.Minute, lines: 1,
		},
		"a registry's refusal is passed on": {
			engine: fakeEngine{inspect: missing, refuse: refused},
			want:   refused, within: time.Second,
		},
		"an engine's failure is passed on": {
			engine: fakeEngine{inspect: broken},
			want:   broken, within: time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				begin, lines := time.Now(), 0
				err := devstack.EnsureImage(t.Context(), test.engine, "image:tag", devstack.PullAnswer, func(string) { lines++ })
				if !errors.Is(err, test.want) {
					t.Errorf("got error %v, want %v", err, test.want)
				}
				if took := time.Since(begin); took > test.within {
					t.Errorf("took %v, want at most %v", took, test.within)
				}
				if lines != test.lines {
					t.Errorf("got %d lines, want %d", lines, test.lines)
				}
			})
		})
	}
}
