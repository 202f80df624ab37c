package devstack

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

const (
	lockFile    = "lock"
	startedFile = "started"
	// ownerPattern names owners; one that is not locked yet ends in newSuffix.
	ownerPattern = "owner-*"
	newSuffix    = ".new"
)

// owner is the folder in which this process notes what it starts. Its lock is
// held until the process ends, however it ends.
type owner struct {
	name string
	dir  string
	lock *os.File
}

// entry is one thing that was started.
type entry struct {
	// PID and Start are a process and the moment it was started, as the
	// system tells it; together they are unique.
	PID   int    `json:"pid,omitempty"`
	Start string `json:"start,omitempty"`
	// Containers tells that containers with the owner's label may exist. It
	// is noted before the first one is made.
	Containers bool `json:"containers,omitempty"`
}

// stateFolderName differs by user, because a folder is its maker's.
func stateFolderName() string {
	return "pendinguploads-devstack-" + strconv.Itoa(os.Getuid())
}

// newOwner makes the folder of an owner, locked.
func newOwner(stateDir string) (*owner, error) {
	if err := privateFolder(stateDir); err != nil {
		return nil, err
	}
	name := "owner-" + rand.Text()
	dir := filepath.Join(stateDir, name)
	// The folder gets its final name with the lock already held, so that a
	// reaper never sees it unlocked.
	if err := os.Mkdir(dir+newSuffix, 0o711); err != nil {
		return nil, fmt.Errorf("make owner folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir+newSuffix, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make owner lock: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("take owner lock: %w", errors.Join(err, lock.Close()))
	}
	if err := os.Rename(dir+newSuffix, dir); err != nil {
		return nil, fmt.Errorf("name owner folder: %w", errors.Join(err, lock.Close()))
	}
	return &owner{name: name, dir: dir, lock: lock}, nil
}

// privateFolder makes a folder that only this user can write to; others may
// pass through it, since PostgreSQL may run as another user.
func privateFolder(dir string) error {
	if err := os.Mkdir(dir, 0o711); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make state folder: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("look at state folder: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || info.Mode().Perm()&0o022 != 0 || (ok && int(stat.Uid) != os.Geteuid()) {
		return fmt.Errorf("state folder %s is not a folder of this user alone", dir)
	}
	return nil
}

// note appends an entry. It is on disk before note returns, as far as a killed
// process is concerned.
func (o *owner) note(e entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("note what was started: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(o.dir, startedFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("note what was started: %w", err)
	}
	_, err = file.Write(append(line, '\n'))
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("note what was started: %w", err)
	}
	return nil
}

// folder makes a folder for a server's data; cred, if not nil, will own it.
func (o *owner) folder(name string, cred *syscall.Credential) (string, error) {
	return makeFolder(filepath.Join(o.dir, name), cred)
}

func makeFolder(dir string, cred *syscall.Credential) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make data folder: %w", err)
	}
	if err := giveTo(dir, cred); err != nil {
		return "", err
	}
	return dir, nil
}

// remove deletes the folder, once everything in it was stopped.
func (o *owner) remove() error {
	err := os.RemoveAll(o.dir)
	if err := errors.Join(err, o.lock.Close()); err != nil {
		return fmt.Errorf("remove owner folder: %w", err)
	}
	return nil
}
