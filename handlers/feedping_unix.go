//go:build unix

package handlers

import (
	"errors"
	"syscall"
)

// pinger writes signs of life as far as the kernel takes them at once. It
// allocates nothing and starts no timer, because thousands of streams get theirs
// every few seconds. One goroutine at a time may use it.
type pinger struct {
	write func(fd uintptr)
	n     int
	err   error
}

func newPinger() *pinger {
	p := &pinger{}
	p.write = func(fd uintptr) { p.n, p.err = syscall.Write(int(fd), pingComment) }
	return p
}

// ping returns how many bytes of the sign of life are written. Nobody else may
// write to the connection meanwhile; deadlines mean nothing.
func (p *pinger) ping(conn syscall.RawConn) (int, error) {
	p.n, p.err = 0, nil
	if err := conn.Control(p.write); err != nil {
		return 0, err
	}
	if errors.Is(p.err, syscall.EAGAIN) || errors.Is(p.err, syscall.EINTR) {
		return 0, nil
	}
	return p.n, p.err
}
