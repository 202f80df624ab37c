package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// builtProgram is a program of tools/go.mod, compiled once into the cache
// folder. Its name there carries the version of the module it comes from.
func (s *Stack) builtProgram(ctx context.Context, name, module string) (string, error) {
	goProgram, err := exec.LookPath("go")
	if err != nil {
		return "", fmt.Errorf("%s cannot be built: %w", name, err)
	}
	tools, err := findTools()
	if err != nil {
		return "", fmt.Errorf("%s cannot be built: %w", name, err)
	}
	version, err := moduleVersion(tools, module)
	if err != nil {
		return "", fmt.Errorf("%s cannot be built: %w", name, err)
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	program := filepath.Join(cache, strings.Join([]string{name, version, runtime.GOOS, runtime.GOARCH}, "-"))
	unlock, err := lockPath(program + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if executable(program) {
		return program, nil
	}
	s.cfg.Log(fmt.Sprintf("%s: building %s from tools/go.mod; this takes about two minutes, once", name, version))
	// go tool compiles the tool as go.mod pins it and says where it is; the
	// copy outlives the trimming of Go's own cache.
	command := exec.CommandContext(ctx, goProgram, "tool", "-modfile="+tools, "-n", name)
	command.Dir = filepath.Dir(filepath.Dir(tools))
	command.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	out, err := command.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, tail(exit.Stderr))
		}
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	if err := copyProgram(strings.TrimSpace(string(out)), program); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	return program, nil
}

// copyProgram copies a file so that the copy is complete or absent.
func copyProgram(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to+newSuffix, content, 0o700); err != nil {
		return err
	}
	return os.Rename(to+newSuffix, to)
}

// findTools finds tools/go.mod from the working folder upwards.
func findTools() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		file := filepath.Join(dir, "tools", "go.mod")
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("there is no tools/go.mod in this folder or above it")
		}
		dir = parent
	}
}

// moduleVersion reads the version that a go.mod requires of a module.
func moduleVersion(file, module string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == module {
			return fields[1], nil
		}
	}
	return "", fmt.Errorf("%s does not require %s", file, module)
}
