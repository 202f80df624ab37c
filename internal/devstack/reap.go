package devstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// newOwnerAge is the age at which a folder that never got its lock is taken
// for the work of a process that died in the middle of making it.
const newOwnerAge = time.Hour

// killGrace is how long a process that was left behind may take to stop.
const killGrace = 2 * time.Second

// reap stops and removes what owners that were killed left behind. It goes on
// after an error; a folder whose containers cannot be removed now is kept for
// the next time.
func (s *Stack) reap(ctx context.Context, stateDir string) error {
	folders, err := filepath.Glob(filepath.Join(stateDir, ownerPattern))
	if err != nil {
		return fmt.Errorf("list owners: %w", err)
	}
	var errs []error
	for _, dir := range folders {
		if err := s.reapOwner(ctx, dir); err != nil {
			errs = append(errs, fmt.Errorf("reap %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Stack) reapOwner(ctx context.Context, dir string) error {
	if strings.HasSuffix(dir, newSuffix) {
		info, err := os.Stat(dir)
		if err != nil || time.Since(info.ModTime()) < newOwnerAge {
			return nil
		}
		return os.RemoveAll(dir)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		// Another process is removing it, or was killed while it did.
		return os.RemoveAll(dir)
	}
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil // its owner lives, or another process reaps it
	}
	entries, err := started(dir)
	if err != nil {
		return err
	}
	containers := false
	for _, e := range entries {
		containers = containers || e.Containers
		if e.PID > 0 && processStart(e.PID) == e.Start && e.Start != "" {
			s.cfg.Log(fmt.Sprintf("stopping process %d that a killed run left behind", e.PID))
			kill(ctx, e)
		}
	}
	if containers {
		if err := s.reapContainers(ctx, filepath.Base(dir)); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

func started(dir string) ([]entry, error) {
	text, err := os.ReadFile(filepath.Join(dir, startedFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var entries []entry
	for line := range strings.Lines(string(text)) {
		var e entry
		// The last line is cut short when its writer was killed at it.
		if json.Unmarshal([]byte(line), &e) == nil {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// kill ends the entry's process group. SIGQUIT makes PostgreSQL take its
// children down with it; who does not listen is killed.
func kill(ctx context.Context, e entry) {
	_ = syscall.Kill(-e.PID, syscall.SIGQUIT)
	ctx, cancel := context.WithTimeout(ctx, killGrace)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		if processStart(e.PID) != e.Start {
			return
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	_ = syscall.Kill(-e.PID, syscall.SIGKILL)
}

func (s *Stack) reapContainers(ctx context.Context, owner string) error {
	engine, err := s.findEngine(ctx)
	if err != nil {
		return err
	}
	list, err := engine.client.ContainerList(ctx, client.ContainerListOptions{
		All:     true,
		Filters: make(client.Filters).Add("label", ownerLabel+"="+owner),
	})
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	var errs []error
	for _, c := range list.Items {
		s.cfg.Log("removing container " + c.ID[:12] + " that a killed run left behind")
		_, err := engine.client.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		if err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("remove container %s: %w", c.ID, err))
		}
	}
	return errors.Join(errs...)
}
