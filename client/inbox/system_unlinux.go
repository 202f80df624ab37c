//go:build !linux

package inbox

import (
	"errors"
	"os"
)

// renameNew is not to be had here: place makes a link.
func renameNew(*os.File, string, string) error { return errors.ErrUnsupported }
