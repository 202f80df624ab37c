package main

import (
	"context"
	"errors"

	"github.com/molecule-ai/pendinguploads/client"
)

// Exit codes. The commands of the workspace's side use all of them; those of the
// service only the first three.
const (
	exitFailure      = 1
	exitUsage        = 2  // words, configuration or files that make no sense
	exitUnauthorized = 3  // the service does not accept the token
	exitRefused      = 4  // empty or too large; for upload, before a byte was sent wherever that can be known
	exitPartly       = 5  // some of it was done
	exitTemporary    = 75 // the service could not be reached or was busy: the same again later may work, and does nothing twice (sysexits.h)
)

// exitError is an error with the exit code it leads to.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func usage(err error) error { return &exitError{exitUsage, err} }

// local is a failure on this machine, which repeating does not heal.
func local(err error) error { return &exitError{exitFailure, err} }

// remote gives an error of the client its exit code.
func remote(err error) error {
	var decided *exitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &decided):
		return &exitError{decided.code, err}
	case errors.Is(err, client.ErrUnauthorized):
		return &exitError{exitUnauthorized, err}
	case errors.Is(err, client.ErrTooLarge), errors.Is(err, client.ErrEmptyFile):
		return &exitError{exitRefused, err}
	case errors.Is(err, context.Canceled):
		return local(errInterrupted)
	case errors.Is(err, client.ErrFileChanged):
		return local(err)
	case client.Temporary(err):
		return &exitError{exitTemporary, err}
	}
	return local(err)
}

var errInterrupted = errors.New("interrupted")

// exitCode is the code of a command's error.
func exitCode(err error) int {
	var decided *exitError
	if errors.As(err, &decided) {
		return decided.code
	}
	return exitFailure
}
