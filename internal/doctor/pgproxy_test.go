package doctor_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// between puts a proxy before PostgreSQL that changes its messages. It returns
// what a message's body is to be, nil for no message at all.
func (w *world) between(t *testing.T, change func(kind byte, body []byte) []byte) {
	t.Helper()
	target, err := url.Parse(w.database)
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target.Host)
			if err != nil {
				_ = client.Close()
				continue
			}
			running.Go(func() {
				_, _ = io.Copy(server, client)
				_ = server.Close()
			})
			running.Go(func() {
				_ = passOn(client, server, change)
				_ = client.Close()
			})
		}
	})
	w.change(t, func(u *url.URL) {
		u.Host = l.Addr().String()
		q := u.Query()
		q.Set("sslmode", "disable")
		u.RawQuery = q.Encode()
	})
}

// passOn passes on the server's messages: a byte, a length that counts itself, a
// body.
func passOn(client io.Writer, server io.Reader, change func(kind byte, body []byte) []byte) error {
	for {
		var head [5]byte
		if _, err := io.ReadFull(server, head[:]); err != nil {
			return err
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(server, body); err != nil {
			return err
		}
		if body = change(head[0], body); body == nil {
			continue
		}
		binary.BigEndian.PutUint32(head[1:], uint32(len(body)+4))
		if _, err := client.Write(append(head[:], body...)); err != nil {
			return err
		}
	}
}
