//go:build !linux

package devstack

import (
	"os/exec"
	"strconv"
	"strings"
)

// processStart is the moment a process was started, unique together with its
// id. It is "" for a process that is gone.
func processStart(pid int) string {
	out, err := exec.Command("ps", "-o", "lstart=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
