//go:build unix

package main

import (
	"context"
	"os/exec"
	"syscall"
	"time"
)

// shellCommand is command run by the shell with the paths as its last arguments.
func shellCommand(ctx context.Context, command string, paths []string) *exec.Cmd {
	return exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", command + ` "$@"`, "sh"}, paths...)...)
}

// ownGroup gives the command a process group, so that a signal to the terminal
// does not reach it before we say so, and a stop reaches all of it.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
}

// endGroup waits for what is left of a command that was asked to end, and kills it
// after stopGrace.
func endGroup(cmd *exec.Cmd) {
	if cmd.Process == nil {
		return
	}
	late := time.NewTimer(stopGrace)
	defer late.Stop()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for syscall.Kill(-cmd.Process.Pid, 0) == nil {
		select {
		case <-look.C:
		case <-late.C:
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			return
		}
	}
}
