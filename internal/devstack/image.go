package devstack

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

const (
	// pullAnswer bounds the wait for a registry's first word. A registry that
	// serves the image gives it after a few round trips; one that cannot be
	// reached may leave the engine waiting for minutes.
	pullAnswer = 3500 * time.Millisecond
	// pullAnswerForced is the same where there is no other way to fall to.
	pullAnswerForced = time.Minute
	// pullStall bounds the silence in the middle of a pull.
	pullStall = time.Minute
)

var (
	errNoRegistry = errors.New("the registry does not answer")
	errPullStall  = errors.New("the pull stopped making progress")
)

// imageAPI is what is used of the engine to get an image.
type imageAPI interface {
	ImageInspect(ctx context.Context, ref string, options ...client.ImageInspectOption) (client.ImageInspectResult, error)
	ImagePull(ctx context.Context, ref string, options client.ImagePullOptions) (client.ImagePullResponse, error)
}

// ensureImage returns nil once the engine has the image. It pulls one that is
// missing, as long as the pull makes progress: the first word must come within
// answer.
func ensureImage(ctx context.Context, api imageAPI, ref string, answer time.Duration, log func(string)) error {
	if _, err := api.ImageInspect(ctx, ref); err == nil {
		return nil
	} else if !errdefs.IsNotFound(err) {
		return fmt.Errorf("inspect image %s: %w", ref, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var began atomic.Bool
	watch := time.AfterFunc(answer, func() {
		if began.Load() {
			cancel(errPullStall)
			return
		}
		cancel(errNoRegistry)
	})
	defer watch.Stop()
	err := pull(ctx, api, ref, func() {
		watch.Reset(pullStall)
		if began.CompareAndSwap(false, true) {
			log("pulling image " + ref)
		}
	})
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("image %s is not there and cannot be pulled: %w", ref, err)
}

func pull(ctx context.Context, api imageAPI, ref string, progress func()) error {
	response, err := api.ImagePull(ctx, ref, client.ImagePullOptions{})
	if err != nil {
		return err
	}
	defer func() { _ = response.Close() }()
	for message, err := range response.JSONMessages(ctx) {
		if err != nil {
			return err
		}
		if message.Error != nil {
			return message.Error
		}
		progress()
	}
	return nil
}
