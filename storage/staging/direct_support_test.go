package staging_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/storage"
	"github.com/molecule-ai/pendinguploads/storage/staging"
)

// logged collects the lines of a store's log.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) to(c *staging.Config) { c.Logger = slog.New(slog.NewTextHandler(l, nil)) }

func (l *logged) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSuffix(l.b.String(), "\n"), "\n")
}

// reserveOne makes a reservation that may fail.
func (d direct) reserveOne(ctx context.Context, ws storage.WorkspaceID) error {
	_, err := d.ReserveDirect(ctx, ws, []storage.DirectFile{directFile("a", []byte("x"))}, time.Minute)
	return err
}

// No policy binds MinIO's root user, so whatever headers are added to its
// presigned puts are heeded.
func TestDirectUploadIsRefusedWhereHeadersAreHeeded(t *testing.T) {
	t.Parallel()
	var log logged
	d := openDirect(t, devstack.MinIO(t), newRows(t), log.to)
	for range 3 {
		if err := d.reserveOne(t.Context(), workspace(t)); !errors.Is(err, storage.ErrNoDirect) {
			t.Errorf("%v, want ErrNoDirect", err)
		}
	}
	lines := log.lines()
	if len(lines) != 1 || !strings.Contains(lines[0], "level=WARN") || !strings.Contains(lines[0], "policy in docs/direct.md") || !strings.Contains(lines[0], "x-amz-copy-source") {
		t.Errorf("the log: %q, want one warning that names header and policy", lines)
	}
	for _, secret := range []string{"X-Amz-Signature", "X-Amz-Credential"} {
		if strings.Contains(strings.Join(lines, ""), secret) {
			t.Errorf("%s is in the log", secret)
		}
	}
	if keys := keysOf(t, d.objects); len(keys) != 0 {
		t.Errorf("objects %v are left", keys)
	}
}

func TestDirectUploadNeedsAStoreThatBinds(t *testing.T) {
	t.Parallel()
	server := devstack.MinIOUser(t)
	rows := newRows(t)
	for name, c := range map[string]struct {
		support blob.DirectSupport
		want    error
	}{
		"nothing":            {blob.DirectSupport{}, storage.ErrNoDirect},
		"everything":         {blob.DirectSupport{Conditional: true, Checksum: true}, nil},
		"the content":        {blob.DirectSupport{Checksum: true}, nil},
		"the first put":      {blob.DirectSupport{Conditional: true}, nil},
		"all but the header": {blob.DirectSupport{Conditional: true, Checksum: true, Taken: []string{"X"}}, storage.ErrNoDirect},
	} {
		d := openDirect(t, server, rows, says(func(context.Context, string) (blob.DirectSupport, error) { return c.support, nil }))
		if err := d.reserveOne(t.Context(), workspace(t)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestTheStoreIsAskedUntilItAnswers(t *testing.T) {
	t.Parallel()
	var log logged
	var dirs []string
	answer := errStore
	d := openDirect(t, devstack.MinIOUser(t), newRows(t), says(func(_ context.Context, dir string) (blob.DirectSupport, error) {
		dirs = append(dirs, dir)
		return blob.DirectSupport{Conditional: true, Checksum: true}, answer
	}), log.to)
	for _, step := range []struct {
		later time.Duration
		store error // what it answers from now on
		want  error
		times int
	}{{0, errStore, storage.ErrNoDirect, 1}, {0, nil, storage.ErrNoDirect, 1}, {2 * time.Minute, nil, nil, 2}, {0, errStore, nil, 2}, {time.Hour, errStore, nil, 2}} {
		d.skew.Add(int64(step.later))
		answer = step.store
		if err := d.reserveOne(t.Context(), workspace(t)); !errors.Is(err, step.want) || len(dirs) != step.times {
			t.Errorf("%v after %d questions, want %v after %d", err, len(dirs), step.want, step.times)
		}
	}
	if dirs[0] != prefix+"/.doctor" {
		t.Errorf("it is tried below %q", dirs[0])
	}
	if lines := log.lines(); len(lines) != 1 {
		t.Errorf("the log: %q, want one line", lines)
	}
}

// A store in which trials stay behind is tried once.
func TestTrialsThatRemainAreNotRepeated(t *testing.T) {
	t.Parallel()
	var log logged
	asked := 0
	d := openDirect(t, devstack.MinIOUser(t), newRows(t), says(func(context.Context, string) (blob.DirectSupport, error) {
		asked++
		return blob.DirectSupport{}, fmt.Errorf("x: %w", blob.ErrProbeRemains)
	}), log.to)
	for range 3 {
		if err := d.reserveOne(t.Context(), workspace(t)); !errors.Is(err, storage.ErrNoDirect) {
			t.Errorf("%v, want ErrNoDirect", err)
		}
		d.skew.Add(int64(24 * time.Hour))
	}
	if lines := log.lines(); asked != 1 || len(lines) != 1 {
		t.Errorf("asked %d times, the log: %q", asked, lines)
	}
}

// Reservations that come while the store is asked wait for the one answer, each
// for as long as its own caller does.
func TestOneQuestionAnswersAllReservations(t *testing.T) {
	t.Parallel()
	asked, answer := make(chan context.Context, 10), make(chan struct{})
	d := openDirect(t, devstack.MinIOUser(t), newRows(t), says(func(ctx context.Context, _ string) (blob.DirectSupport, error) {
		asked <- ctx
		<-answer
		return blob.DirectSupport{Conditional: true, Checksum: true}, ctx.Err()
	}))
	first, leave := context.WithCancelCause(t.Context())
	left := make(chan error)
	go func() { left <- d.reserveOne(first, workspace(t)) }()
	question := <-asked
	outcomes := make(chan error)
	const others = 4
	for range others {
		go func() { outcomes <- d.reserveOne(t.Context(), workspace(t)) }()
	}
	gone := errors.New("the sender has left")
	leave(gone)
	if err := <-left; !errors.Is(err, gone) {
		t.Errorf("who leaves: %v, want %v", err, gone)
	}
	if question.Err() != nil {
		t.Errorf("the question ended with who asked it: %v", question.Err())
	}
	if _, bounded := question.Deadline(); !bounded {
		t.Error("the question has no bound of its own")
	}
	close(answer)
	for range others {
		if err := <-outcomes; err != nil {
			t.Errorf("who stays: %v", err)
		}
	}
	if n := len(asked); n != 0 {
		t.Errorf("%d more questions", n)
	}
}
