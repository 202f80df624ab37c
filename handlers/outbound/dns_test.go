package outbound_test

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// nameServer is a DNS server on loopback that knows the IPv4 addresses of a few
// names. Every lookup of a name takes the next of its answers; the last stays.
type nameServer struct {
	mu      sync.Mutex
	answers map[string][][]netip.Addr // by name with its final dot
}

// newResolver starts a name server and returns a resolver that asks only it.
func newResolver(t *testing.T, answers map[string][][]netip.Addr) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &nameServer{answers: answers}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.serve(conn)
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "udp4", conn.LocalAddr().String())
		},
	}
}

func (s *nameServer) serve(conn net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if reply := s.reply(buf[:n]); reply != nil {
			_, _ = conn.WriteTo(reply, from)
		}
	}
}

// reply answers a query of one question, RFC 1035 section 4.
func (s *nameServer) reply(query []byte) []byte {
	const header = 12
	name, i := "", header
	for i < len(query) && query[i] != 0 {
		length := int(query[i])
		if i+1+length > len(query) {
			return nil
		}
		name += string(query[i+1:i+1+length]) + "."
		i += 1 + length
	}
	end := i + 5 // the root label, type and class
	if end > len(query) {
		return nil
	}
	isA := binary.BigEndian.Uint16(query[i+1:]) == 1
	addrs, known := s.next(name, isA)

	reply := append([]byte{}, query[:end]...)
	binary.BigEndian.PutUint16(reply[2:], 0x8180) // response, recursion available
	if !known {
		reply[3] |= 3 // no such name
	}
	binary.BigEndian.PutUint16(reply[6:], uint16(len(addrs)))
	clear(reply[8:header])
	for _, addr := range addrs {
		ip := addr.As4()
		reply = append(reply, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		reply = append(reply, ip[:]...)
	}
	return reply
}

func (s *nameServer) next(name string, isA bool) ([]netip.Addr, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answers, ok := s.answers[name]
	if !ok {
		return nil, false
	}
	if !isA {
		return nil, true
	}
	if len(answers) > 1 {
		s.answers[name] = answers[1:]
	}
	return answers[0], true
}
