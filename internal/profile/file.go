package profile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
)

// Config is the file: profiles by name.
type Config struct {
	Default  string             `json:"default,omitempty"` // the profile used where none is asked for
	Profiles map[string]Profile `json:"profiles"`
}

// DefaultPath is where the file lies unless the user says otherwise:
// pendinguploads/config.json in the user's config folder.
func DefaultPath() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the config folder: %w", err)
	}
	return filepath.Join(dir, "pendinguploads", "config.json"), nil
}

// ExposedError is a file with tokens that other users of the machine can read.
type ExposedError struct {
	Path string
	Mode fs.FileMode
}

func (e *ExposedError) Error() string {
	return fmt.Sprintf("others can read %s (mode %04o), run: chmod 600 %s", e.Path, e.Mode, e.Path)
}

// maxFile bounds the file.
const maxFile = 1 << 20

// Load reads the file; one that is absent is empty. *ExposedError: it is not
// used, because others can read it.
func Load(path string) (Config, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, nil
	}
	if err != nil {
		return Config{}, fmt.Errorf("read config: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return Config{}, fmt.Errorf("read config: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return Config{}, &ExposedError{Path: path, Mode: mode}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Config{}, fmt.Errorf("read config: %w", err)
	}
	if len(data) > maxFile {
		return Config{}, fmt.Errorf("config %s is larger than %d bytes", path, maxFile)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return Config{}, nil
	}
	var c Config
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return Config{}, fmt.Errorf("config %s: %w", path, err)
	}
	if _, ok := c.Profiles[c.Default]; c.Default != "" && !ok {
		return Config{}, fmt.Errorf("config %s: default names the profile %q, which is not there", path, c.Default)
	}
	return c, nil
}

// Update changes the file: no two updates at the same time, and a reader sees it
// as it was or as it is. It is created with mode 0600 in a folder of mode 0700.
func Update(path string, change func(*Config) error) error {
	// What a link points to is replaced, not the link.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write config: %w", err)
	}
	unlock, err := lock(path + ".lock")
	if err != nil {
		return fmt.Errorf("lock config: %w", err)
	}
	defer unlock()
	c, err := Load(path)
	if err != nil {
		return err
	}
	if c.Profiles == nil {
		c.Profiles = map[string]Profile{}
	}
	if err := change(&c); err != nil {
		return err
	}
	if err := save(path, c); err != nil {
		return fmt.Errorf("write config: %w", err)
	}
	return nil
}

func save(path string, c Config) (err error) {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".config-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(append(data, '\n')); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// names are the profiles' names, the default first.
func (c Config) names() []string {
	var names []string
	for name := range c.Profiles {
		if name != c.Default {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if c.Default != "" {
		names = slices.Insert(names, 0, c.Default)
	}
	return names
}
