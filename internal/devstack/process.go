package devstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	// portTries bounds how often another port is tried: a free port may be
	// taken by someone else before the server gets to it.
	portTries = 5
	// processReady bounds the start of a server as a local process.
	processReady = 30 * time.Second
)

// process is a running local server.
type process struct {
	command *exec.Cmd
	done    chan struct{} // closed when it has ended
	err     error         // how it ended, set before done is closed
	log     string        // file of its output
}

// localServer is a server to be run as a local process.
type localServer struct {
	name    string
	program string
	args    func(addr string) []string // addr is 127.0.0.1 and a port
	env     []string                   // added to this process's
	cred    *syscall.Credential        // nil: as this process
	stop    syscall.Signal
	answers func(ctx context.Context, addr string) error
}

// runProcess starts the server on a free port of 127.0.0.1 and waits until it
// answers there.
func (s *Stack) runProcess(ctx context.Context, server localServer) (addr string, err error) {
	owner, err := s.own(ctx)
	if err != nil {
		return "", err
	}
	for try := 1; ; try++ {
		addr, err := freeAddr(ctx)
		if err != nil {
			return "", err
		}
		p, err := owner.start(ctx, server, addr)
		if err != nil {
			return "", err
		}
		stop := func(ctx context.Context) error { return p.stop(ctx, server.stop) }
		if err := p.wait(ctx, addr, server.answers); err != nil {
			err = fmt.Errorf("run %s: %w", server.program, errors.Join(err, stop(context.WithoutCancel(ctx))))
			if ctx.Err() != nil || try == portTries {
				return "", err
			}
			continue
		}
		if _, err := s.onStop(ctx, stop); err != nil {
			return "", err
		}
		return addr, nil
	}
}

func freeAddr(ctx context.Context) (string, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	addr := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return addr, nil
}

func (o *owner) start(ctx context.Context, server localServer, addr string) (*process, error) {
	logFile, err := os.Create(filepath.Join(o.dir, server.name+".log"))
	if err != nil {
		return nil, fmt.Errorf("make log of %s: %w", server.name, err)
	}
	defer func() { _ = logFile.Close() }()
	// It ends by stop, not with the first caller's context.
	command := exec.CommandContext(context.WithoutCancel(ctx), server.program, server.args(addr)...)
	command.Stdout, command.Stderr = logFile, logFile
	command.Env = append(os.Environ(), server.env...)
	command.Dir = "/"
	// A group of its own keeps the terminal's interrupt away from it: it is
	// stopped after those who use it.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: server.cred}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", server.program, err)
	}
	p := &process{command: command, done: make(chan struct{}), log: logFile.Name()}
	go func() {
		if p.err = command.Wait(); p.err == nil {
			p.err = errors.New("exit status 0")
		}
		close(p.done)
	}()
	pid := command.Process.Pid
	if err := o.note(entry{PID: pid, Start: processStart(pid)}); err != nil {
		_ = command.Process.Kill()
		<-p.done
		return nil, err
	}
	return p, nil
}

// wait returns once the process answers at addr.
func (p *process) wait(ctx context.Context, addr string, answers func(ctx context.Context, addr string) error) error {
	ctx, cancel := context.WithTimeout(ctx, processReady)
	defer cancel()
	go func() {
		select {
		case <-p.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	_, err := waitAnswer(ctx, []string{addr}, answers, func() error { return nil })
	select {
	case <-p.done:
		text, _ := os.ReadFile(p.log)
		return fmt.Errorf("it ended at once: %w: %s", p.err, tail(text))
	default:
		return err
	}
}

// stop ends the process and waits for it.
func (p *process) stop(ctx context.Context, signal syscall.Signal) error {
	select {
	case <-p.done:
		return nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_ = p.command.Process.Signal(signal)
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	pid := p.command.Process.Pid
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	<-p.done
	return nil
}

func splitAddr(addr string) (host string, port int) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return addr, 0
	}
	port, _ = strconv.Atoi(text)
	return host, port
}
