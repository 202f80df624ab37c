package devstack

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// processStart is the moment a process was started, unique together with its
// id: the boot and the clock ticks since then. It is "" for a process that is
// gone or has ended and waits for its parent.
func processStart(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The command's name is in parentheses and may hold anything.
	_, rest, found := bytes.Cut(stat, []byte(") "))
	if i := bytes.LastIndex(stat, []byte(") ")); i >= 0 {
		rest = stat[i+2:]
	}
	fields := strings.Fields(string(rest))
	const state, startTime = 0, 19 // fields 3 and 22 of proc_pid_stat(5)
	if !found || len(fields) <= startTime || fields[state] == "Z" {
		return ""
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + ":" + fields[startTime]
}
