package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"
)

// stopGrace is how long a command may go on after it was asked to end.
const stopGrace = 10 * time.Second

// handlerCommand is the command of --exec for one message.
type handlerCommand struct {
	command string
	paths   []string
	env     []string
	output  io.Writer // of what the command prints
}

// run gives the event to the command and waits for its end. When ctx ends, the
// command's process group is asked to end, and killed after stopGrace.
func (h handlerCommand) run(ctx context.Context, event any) error {
	var input bytes.Buffer
	e := json.NewEncoder(&input)
	e.SetEscapeHTML(false)
	if err := e.Encode(event); err != nil {
		return fmt.Errorf("encode the message: %w", err)
	}
	cmd := shellCommand(ctx, h.command, h.paths)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = &input, h.output, h.output, h.env
	cmd.WaitDelay = stopGrace
	ownGroup(cmd)
	err := cmd.Run()
	if ctx.Err() != nil {
		endGroup(cmd)
		return context.Cause(ctx)
	}
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) { // a process it left behind holds its output open
		return fmt.Errorf("command: %w", err)
	}
	return nil
}
