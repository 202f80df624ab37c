package devstack

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// dataFolder is Config.Data in use by this process alone.
type dataFolder struct {
	dir  string
	lock *os.File
}

// close gives the lock back by name: a process that is just being forked holds a
// copy of every open file for a moment.
func (d *dataFolder) close() error {
	return errors.Join(syscall.Flock(int(d.lock.Fd()), syscall.LOCK_UN), d.lock.Close())
}

// durable opens Config.Data.
func (s *Stack) durable() (*dataFolder, error) {
	return s.data.get(func() (*dataFolder, error) {
		dir, err := filepath.Abs(s.cfg.Data)
		if err != nil {
			return nil, fmt.Errorf("data folder: %w", err)
		}
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, fmt.Errorf("data folder: %w", err)
		}
		lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("data folder: %w", err)
		}
		if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			return nil, fmt.Errorf("data folder %s is in use: %w", dir, errors.Join(err, lock.Close()))
		}
		return &dataFolder{dir: dir, lock: lock}, nil
	})
}

// dataFor is the folder for a local server's data.
func (s *Stack) dataFor(owner *owner, server string, cred *syscall.Credential) (string, error) {
	if s.cfg.Data == "" {
		return owner.folder(server, cred)
	}
	data, err := s.durable()
	if err != nil {
		return "", err
	}
	return makeFolder(filepath.Join(data.dir, server), cred)
}

// volume is the name of the engine's volume for a server's data.
func (s *Stack) volume(server string) string {
	dir, err := filepath.Abs(s.cfg.Data)
	if err != nil {
		dir = s.cfg.Data
	}
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(dir))
	return fmt.Sprintf("pendinguploads-dev-%x-%s", hash.Sum64(), server)
}

// secret is a server's password: a new one each time, or the one that was made
// with its data.
func (s *Stack) secret(server string) (string, error) {
	if s.cfg.Data == "" {
		return newSecret(), nil
	}
	data, err := s.durable()
	if err != nil {
		return "", err
	}
	file := filepath.Join(data.dir, server+"-password")
	text, err := os.ReadFile(file)
	if err == nil {
		return strings.TrimSpace(string(text)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read password of %s: %w", server, err)
	}
	secret := newSecret()
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write password of %s: %w", server, err)
	}
	return secret, nil
}
