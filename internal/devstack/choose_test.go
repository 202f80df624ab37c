package devstack_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

func TestChoose(t *testing.T) {
	t.Parallel()
	works := func(kind, what string) devstack.Way {
		return devstack.Way{Kind: kind, Start: func(context.Context) (string, string, error) { return what, what, nil }}
	}
	fails := func(kind, reason string) devstack.Way {
		return devstack.Way{Kind: kind, Start: func(context.Context) (string, string, error) { return "", "", errors.New(reason) }}
	}
	const docker, local = devstack.ForceDocker, devstack.ForceLocal
	for name, test := range map[string]struct {
		force string
		ways  []devstack.Way
		want  string
		lines []string
		err   string
	}{
		"the first way that works is taken": {
			ways:  []devstack.Way{works(docker, "container"), works(local, "process")},
			want:  "container",
			lines: []string{"thing: container"},
		},
		"ways that were passed over are named with their reason": {
			ways:  []devstack.Way{fails(docker, "no\nengine"), fails(local, "no program"), works(local, "download")},
			want:  "download",
			lines: []string{"thing: download, because no engine; no program"},
		},
		"local is forced": {
			force: local,
			ways:  []devstack.Way{works("", "named"), works(docker, "container"), works(local, "process")},
			want:  "process",
			lines: []string{"thing: process, because DEVSTACK=local"},
		},
		"docker is forced": {
			force: docker,
			ways:  []devstack.Way{works("", "named"), works(docker, "container"), works(local, "process")},
			want:  "container",
			lines: []string{"thing: container, because DEVSTACK=docker"},
		},
		"a forced kind that fails is not replaced": {
			force: docker,
			ways:  []devstack.Way{fails(docker, "no engine"), works(local, "process")},
			err:   "devstack: no way to start thing: DEVSTACK=docker; no engine",
		},
		"a named server that fails is not replaced": {
			ways: []devstack.Way{fails("", "DATABASE_URL is set, but: refused"), works(docker, "container")},
			err:  "devstack: no way to start thing: DATABASE_URL is set, but: refused",
		},
		"an unknown force is refused": {
			force: "podman",
			ways:  []devstack.Way{works(docker, "container")},
			err:   `devstack: DEVSTACK="podman" is neither "docker" nor "local"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var lines []string
			got, err := devstack.Choose(t.Context(), func(line string) { lines = append(lines, line) }, test.force, test.ways...)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if diff := cmp.Diff(test.err, text); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("server (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.lines, lines); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
		})
	}
}

func TestChooseEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := devstack.Choose(ctx, func(string) {}, "",
		devstack.Way{Kind: devstack.ForceDocker, Start: func(ctx context.Context) (string, string, error) {
			cancel()
			return "", "", ctx.Err()
		}},
		devstack.Way{Kind: devstack.ForceLocal, Start: func(context.Context) (string, string, error) {
			t.Error("another way was tried after the caller gave up")
			return "", "", nil
		}},
	)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}
