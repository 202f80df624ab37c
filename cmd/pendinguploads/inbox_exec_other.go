//go:build !unix

package main

import (
	"context"
	"os/exec"
	"strings"
)

// shellCommand is command with the paths as its last arguments. There is no shell:
// its words are parted by blanks.
func shellCommand(ctx context.Context, command string, paths []string) *exec.Cmd {
	words := append(strings.Fields(command), paths...)
	return exec.CommandContext(ctx, words[0], words[1:]...)
}

func ownGroup(*exec.Cmd) {}

func endGroup(*exec.Cmd) {}
